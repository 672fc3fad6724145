"""What autodisp-export is made of."""
