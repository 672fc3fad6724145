"""Config groups of autodisp-search."""
