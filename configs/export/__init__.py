"""Config groups of autodisp-export."""
