"""Config groups of autodisp-evaluate."""
