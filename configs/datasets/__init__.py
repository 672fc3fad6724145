"""The datasets, for every program that reads one: ``dataset=``."""
