"""Tasks: network, loss and metrics. The search engine does not depend on any particular task."""
