"""ONNX graphs, in float32 and int8, and what other converters take."""
