"""Training runs that several tests look at: each is made once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from phi3tune.config import TrainConfig
from phi3tune.paths import Workspace
from tests.training.runs import STEPS, NewRun, Run, write_rows


@pytest.fixture(scope="session")
def new_run(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> NewRun:
    """Makes a run that has not started, with dropout, so that random states matter."""

    def make(**changes: Any) -> Run:
        root = tmp_path_factory.mktemp("run")
        settings = {
            "dataset": str(write_rows(root / "lamps.jsonl")),
            "model": str(tiny_model),
            "validation_share": 0.2,
            "test_share": 0.0,
            "max_steps": STEPS,
            "batch_size": 4,
            "max_length": 64,
            "lora_rank": 4,
            "lora_dropout": 0.1,
            "learning_rate": 0.01,
            "eval_steps": 6,
            "save_steps": 3,
            "sample_count": 2,
            "seed": 3,
            "dtype": "fp32",
        }
        workspace = Workspace(root / "workspace")
        folder = workspace.runs / "lamps-1"
        folder.mkdir(parents=True)
        return Run(TrainConfig(**{**settings, **changes}), workspace, folder, {}, [])

    return make


@pytest.fixture(scope="session")
def whole_run(new_run: NewRun) -> Run:
    """A LoRA run of 12 steps that nothing interrupted. Read only."""
    run = new_run()
    run.go()
    return run
