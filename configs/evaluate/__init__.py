"""What autodisp-evaluate is made of."""
