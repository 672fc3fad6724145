"""Config groups of autodisp-train."""
