"""Readers, the procedural stereo set, splits, streams and augmentation. Knows neither networks nor the engine."""
