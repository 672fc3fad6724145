"""Builds objects from typed configs: the only modules that import both."""
