"""Builds of a model in another form: merged weights, and ONNX with proof that it answers alike."""

from phi3tune.export.run import export

__all__ = ["export"]
