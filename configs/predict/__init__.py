"""Config groups of autodisp-predict."""
