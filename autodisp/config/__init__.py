"""The schema of every YAML: typed dataclasses, checks of each value, and checks across sections."""
