"""Observers that write the files of a run folder during the run."""
