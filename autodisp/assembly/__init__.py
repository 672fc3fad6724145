"""From typed configs to objects: the only modules that see both."""
