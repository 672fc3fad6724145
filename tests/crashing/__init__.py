"""Kills searches and compares what comes of them; see ``__main__``."""
