"""Training a network in full: one step-based loop whatever the task."""
