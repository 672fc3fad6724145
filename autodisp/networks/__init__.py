"""Networks built from a cell factory: the same class is the supernet and the found network."""
