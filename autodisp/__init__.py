"""Finds dense-prediction networks by gradient and watches the curvature of the validation loss while it does."""

__version__ = "0.1.0"
