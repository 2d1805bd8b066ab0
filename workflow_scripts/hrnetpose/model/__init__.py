"""From an mmpose checkpoint to ONNX graphs.  The one room that knows mmpose and torch."""
