"""Metrics of a network, or of a baseline, over a dataset."""
