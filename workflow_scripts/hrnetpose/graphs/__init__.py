"""ONNX graphs: comparison, precision, quantisation, the pixel input that engines take."""
