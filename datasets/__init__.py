"""Dataset readers, procedural stereo data, splits, streams and augmentation; independent of networks and the engine."""
