"""Builds of a model in another form: merged weights, and ONNX with proof that it answers alike."""
