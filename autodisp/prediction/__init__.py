"""Predictions for a user's own images: finds pairs, runs a trained network, writes the results."""
