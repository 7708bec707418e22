"""ONNX graphs, in float32 and int8."""
