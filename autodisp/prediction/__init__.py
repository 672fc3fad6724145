"""Predictions for a user's own pictures: finding pairs, running a trained network, writing what comes out."""
