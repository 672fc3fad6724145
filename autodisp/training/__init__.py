"""Full training of a network: one step-based loop for all tasks."""
