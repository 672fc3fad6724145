"""What autodisp-check is made of."""
