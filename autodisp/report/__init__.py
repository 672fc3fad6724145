"""Pages and images of runs: cells, curves, comparisons."""
