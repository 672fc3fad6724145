"""What autodisp-report is made of."""
