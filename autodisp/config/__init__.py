"""The schema of every YAML: typed dataclasses, the checks of each value and the checks across sections."""
