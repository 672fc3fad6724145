"""Tasks: network, loss and metrics. The engine knows no task."""
