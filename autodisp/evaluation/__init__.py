"""Figures of a network, or of what a user would compare it with, over a data set."""
