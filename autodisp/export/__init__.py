"""Hands over what was found: cells as JSON and a drawing, trained networks as ONNX and torch.export files."""
