"""The YAML of all programs; a package so that Hydra finds it installed or not."""
