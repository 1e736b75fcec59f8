"""What an evaluation can have beyond its rows: a judge, the safety panel and public benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from phi3tune.config import EvalConfig
from phi3tune.engines.models import ModelRef
from phi3tune.errors import UserError
from phi3tune.events import Reporter
from phi3tune.paths import Workspace


def check(config: EvalConfig) -> None:
    """Raise `UserError` for what is wrong with judge, safety or benchmarks now, not after hours of answering."""
    if config.judge is not None:
        from phi3tune.evaluation import judge

        judge.check(config)
    if config.safety is not None:
        from phi3tune.evaluation import safety

        safety.check(config)
    if config.benchmarks:
        from phi3tune.evaluation import benchmarks

        benchmarks.check(config)


def check_models(config: EvalConfig, refs: Sequence[ModelRef]) -> None:
    """Raise `UserError` when a classifier is asked for what only a model that answers can do."""
    classifier = next((ref for ref in refs if ref.task == "classification"), None)
    if classifier is not None and (config.safety is not None or config.benchmarks):
        raise UserError(
            f"{classifier.label} chooses labels and answers no prompts of --safety or --benchmarks; leave one out"
        )


def run(
    config: EvalConfig,
    refs: Sequence[ModelRef],
    found: dict[str, Any],
    lines: list[dict[str, Any]],
    out_dir: Path,
    workspace: Workspace,
    reporter: Reporter,
) -> bool:
    """Add what was asked for beyond the rows; False when the user stopped it."""
    if config.judge is not None and lines:
        from phi3tune.evaluation import judge

        found["judge"] = judge.run(config, found, lines, out_dir, workspace, reporter)
        if found["judge"] is None:
            return False
    if config.safety is not None:
        from phi3tune.evaluation import safety

        found["safety"] = safety.run(config, refs, out_dir, workspace, reporter)
        if found["safety"] is None:
            return False
    if config.benchmarks:
        from phi3tune.evaluation import benchmarks

        found["benchmarks"] = benchmarks.run(config, refs, out_dir, workspace, reporter)
        if found["benchmarks"] is None:
            return False
    return True
