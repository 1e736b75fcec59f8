"""The tutorial's and the laptop guide's commands, run in order as they stand, and what they print compared."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from phi3tune import jobs
from phi3tune.cli import train
from tests.path.command import ROOT, TRAIN, Tuned

pytestmark = [pytest.mark.slow, pytest.mark.alone]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```(sh|text|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"[+-]?\d[\d,.]*(e[+-]\d+)?")
# What these print depends on nothing but the files: every figure must be the one that stands in the text.
EXACT = ("phi3tune data", "phi3tune votes", "phi3tune chat", "python")


class Reader:
    """Somebody who types what a page says, in an empty folder and an empty workspace."""

    def __init__(self, folder: Path, tuned: Tuned) -> None:
        self.folder, self.home, self._tuned = folder, folder / "workspace", tuned
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self._environment = {**os.environ, "PHI3TUNE_HOME": str(self.home), "PATH": path, "COLUMNS": "200"}

    def type(self, command: str) -> str:
        """What the commands print. The run that the other tests share takes the place of training once more."""
        if shlex.split(command) == ["phi3tune", *TRAIN]:
            shutil.copytree(self._tuned.home / "runs" / self._tuned.run, self.home / "runs" / self._tuned.run)
            return ""
        done = subprocess.run(
            ["bash", "-e", "-c", command],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory, tuned: Tuned) -> Reader:
    return Reader(tmp_path_factory.mktemp("reader"), tuned)


def plain(text: str, *, exact: bool) -> str:
    """One line with single spaces; without its numbers unless they must be equal."""
    return " ".join((text if exact else NUMBER.sub("#", text)).split())


def check(told: str, printed: str, *, exact: bool) -> None:
    """Every line that the page shows must have been printed."""
    lines = [plain(line, exact=exact) for line in printed.splitlines()]
    for line in told.splitlines():
        assert plain(line, exact=exact) in lines, f"not printed: {line}\n{printed}"


def test_the_tutorial_is_true_from_an_empty_workspace_to_a_vote(
    reader: Reader, tuned: Tuned, capsys: pytest.CaptureFixture[str]
) -> None:
    command = printed = ""
    typed = []
    for kind, block in BLOCK.findall((DOCS / "tutorial.md").read_text(encoding="utf-8")):
        if kind == "sh":
            command, printed = block, reader.type(block)
            typed += [line.split()[1] for line in block.splitlines() if line.startswith("phi3tune")]
            if shlex.split(block) == ["phi3tune", *TRAIN]:
                train.report(jobs.view(reader.home / "runs" / tuned.run), as_json=False)
                printed = capsys.readouterr().err
        else:
            check(block, printed, exact=command.startswith(EXACT))
    assert typed == ["data", "data", "train", "train", "evaluate", "export", "chat", "prompts", "votes", "votes"]


def test_a_build_answers_elsewhere_with_onnxruntime_genai_alone(reader: Reader) -> None:
    """After the tutorial, whose build it packs; exporting it once more is left out."""
    printed = ""
    for kind, block in BLOCK.findall((DOCS / "laptop.md").read_text(encoding="utf-8")):
        if kind == "python":
            assert len(block.splitlines()) <= 20 and "phi3tune" not in block and "torch" not in block
            (reader.folder / "ask.py").write_text(block, encoding="utf-8")
        elif kind == "text":
            check(block, printed, exact=True)
        else:
            printed = reader.type("\n".join(line for line in block.splitlines() if " export " not in line))
            if (packed := reader.folder / "lantern.zip").exists():
                zipfile.ZipFile(packed).extractall(reader.folder)
