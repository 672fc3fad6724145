"""Prediction on the user's images: finds pairs, runs a trained network, writes the results."""
