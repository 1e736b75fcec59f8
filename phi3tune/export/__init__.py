"""Builds of a model in another form: merged weights, and ONNX with proof that it answers alike.

torch loads when `export` is first named: what only measures, shows or packs a build does without it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from phi3tune.export.run import export

__all__ = ["export"]


def __getattr__(name: str) -> Any:
    if name == "export":
        from phi3tune.export.run import export

        return export
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
