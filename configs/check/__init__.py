"""Config groups of autodisp-check."""
