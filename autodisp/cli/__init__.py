"""Thin Hydra programs, one per file."""
