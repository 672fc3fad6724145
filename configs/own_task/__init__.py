"""A task of the user's own, for the programs that learn the task from a dataset or a model: ``task=own``."""
