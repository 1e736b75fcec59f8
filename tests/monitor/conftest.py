"""A run whose training data is known, without training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from phi3tune import data
from phi3tune.config import TrainConfig, to_yaml
from phi3tune.paths import NANO, Workspace, write_json

RUN = "lamp-1"
COLOURS = ("red", "green", "blue", "white")
ROOMS = ("kitchen", "hall", "cellar", "attic")


def question(number: int) -> str:
    return f"Please turn the {COLOURS[number % 4]} lamp in the {ROOMS[number // 4 % 4]} on." + " Now." * (number % 5)


@pytest.fixture(scope="session")
def lamps(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainConfig, dict[str, Any]]:
    """Settings and the dataset's record of a run on 200 short chats, every tenth answer a refusal."""
    rows = [
        [
            {"role": "user", "content": question(number)},
            {"role": "assistant", "content": "I cannot help with that." if number % 10 == 0 else "The lamp is on."},
        ]
        for number in range(200)
    ]
    folder = tmp_path_factory.mktemp("lamps")
    path = folder / "lamps.jsonl"
    path.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    config = TrainConfig(model=str(NANO), dataset=str(path))
    return config, data.load(config, Workspace(folder)).record()


@pytest.fixture
def run(workspace: Workspace, lamps: tuple[TrainConfig, dict[str, Any]]) -> Path:
    """A run on those chats; its weights are phi3-nano's own."""
    config, record = lamps
    folder = workspace.runs / RUN
    folder.mkdir(parents=True)
    (folder / "run.yaml").write_text(to_yaml(config))
    write_json(folder / "dataset.json", record)
    shutil.copytree(NANO, folder / "merged")
    return folder
