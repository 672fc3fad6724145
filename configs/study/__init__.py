"""Config groups of autodisp-study."""
