"""The README's commands, run: ``make readme-test``."""
