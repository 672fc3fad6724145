"""Damaged and hostile files for every reader of the project; ``python -m tests.fuzzing --help``."""
