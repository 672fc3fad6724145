"""What a search is for: a task builds the network, says its loss and its figures. The engine knows no task."""
