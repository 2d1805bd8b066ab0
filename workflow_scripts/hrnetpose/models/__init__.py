"""Where a model comes from: mmpose configs and checkpoints, and their export to ONNX."""
