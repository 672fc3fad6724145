"""Networks and tasks, for the programs that train: ``network=`` and ``task=``."""
