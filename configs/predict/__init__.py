"""What autodisp-predict is made of."""
