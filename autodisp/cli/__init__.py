"""One thin Hydra program a file."""
