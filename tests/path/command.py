"""The command line as the tests of the main path call it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
# The run that the tests share, as the tutorial starts it: every default.
TRAIN = ("train", "--dataset", "lantern-support")


@dataclass(frozen=True)
class Answer:
    """What a command did: its exit code, the JSON it printed (None if nothing), and its errors."""

    code: int
    json: Any
    errors: str


def call(home: Path, *argv: str) -> Answer:
    """Run `phi3tune` as a user does, in a process of its own."""
    command = subprocess.run(
        [sys.executable, "-m", "phi3tune", *argv],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PHI3TUNE_HOME": str(home)},
        check=False,
    )
    return Answer(command.returncode, json.loads(command.stdout) if command.stdout else None, command.stderr)


Command = Callable[..., Answer]


@dataclass(frozen=True)
class Tuned:
    """The shared run, its workspace, and what `train --json` printed."""

    home: Path
    run: str
    result: dict[str, Any]

    def __call__(self, *argv: str) -> Answer:
        return call(self.home, *argv)


@dataclass(frozen=True)
class Scored:
    """A run, its workspace, and what `evaluate --json` printed of it beside its base."""

    home: Path
    run: str
    result: dict[str, Any]

    @property
    def report(self) -> Path:
        return Path(self.result["path"])
