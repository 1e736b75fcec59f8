from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from phi3tune.config import ExportConfig
from phi3tune.export import export
from phi3tune.paths import Workspace
from tests.fake_runs import chats, finished_run
from tests.fakes import RecordingReporter, tiny_phi3


class Exported:
    """A workspace with one LoRA run of a tiny Phi-3, and every build of it; for tests that only read."""

    def __init__(self, root: Path) -> None:
        self.workspace = Workspace(root / "workspace")
        # Wider than by default, so that logits differ enough for damage to show.
        self.base = tiny_phi3(root / "base", initializer_range=0.1)
        self.data = chats(root / "chats.jsonl", 40)
        self.run = finished_run(self.workspace, "tuned", self.base, self.data)
        self.reporter = RecordingReporter()
        self.results: dict[str, dict[str, Any]] = {
            precision: export(
                ExportConfig(model="tuned", precision=precision, parity_rows=2),
                self.workspace,
                self.reporter,
                job_dir=root / "job",
            )
            for precision in ("int4", "int8", "fp32")
        }


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return Exported(tmp_path_factory.mktemp("exported"))


@pytest.fixture
def run_export(workspace: Workspace, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """`run_export(model, precision=..., reporter=...)` in the test's own workspace."""

    def run(model: str, *, reporter: RecordingReporter | None = None, **settings: Any) -> dict[str, Any]:
        config = ExportConfig(model=model, **settings)
        return export(config, workspace, reporter or RecordingReporter(), job_dir=tmp_path / "job")

    return run
