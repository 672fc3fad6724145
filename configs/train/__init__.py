"""What autodisp-train is made of."""
