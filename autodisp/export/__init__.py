"""Export: found cells as JSON and drawings, trained networks as ONNX and torch.export files."""
