"""What autodisp-search is made of."""
