"""Writes the model card from what was measured."""

from pathlib import Path
from typing import Any

from .train import Plan, Trained


def write_card(folder: Path, plan: Plan, trained: Trained, scored: list[dict[str, Any]]) -> None:
    """README.md beside the model."""
    (folder / "README.md").write_text("# phi3-nano\n", "utf-8")
