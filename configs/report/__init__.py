"""Config groups of autodisp-report."""
