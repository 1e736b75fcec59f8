"""kill -9 while an artefact is written: it is complete or absent, and leftovers are swept by the next one."""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path

import pytest

from phi3tune import jobs
from phi3tune.config import ExportConfig
from phi3tune.paths import Workspace, file_hash, write_manifest
from tests.fake_runs import chats, finished_run, lora_adapter
from tests.faults.victims import FULL, TEMPORARY, kill, one_core, wait_until, whole

pytestmark = [pytest.mark.slow, pytest.mark.alone]
KILLS = 5 if FULL else 1


@pytest.fixture
def run(workspace: Workspace, tiny_model: Path, tmp_path: Path) -> Path:
    return finished_run(workspace, "lamp", tiny_model, chats(tmp_path / "chats.jsonl", 20))


def export(workspace: Workspace, **settings: str) -> Path:
    with one_core():
        return jobs.submit("export", ExportConfig(model="lamp", parity_rows=2, **settings), workspace)


def completed(job: Path, workspace: Workspace) -> bool:
    list(jobs.follow(job, workspace))
    return jobs.view(job).state == "completed"


def killed_while_writing(final: Path, workspace: Workspace, rng: random.Random, **settings: str) -> bool:
    """Kill an export with the artefact half written beside its place; False when the worker was the faster one."""

    def begun() -> set[Path]:
        return set(final.parent.glob(f".{final.name}{TEMPORARY}"))

    known = begun()
    job = export(workspace, **settings)
    wait_until(lambda: begun() - known or not jobs.view(job).active, every=0.0)
    time.sleep(rng.uniform(0.0, 0.05))
    kill(job)
    return jobs.view(job).state == "failed" and bool(begun())


def test_a_killed_merge_leaves_nothing_or_all(run: Path, workspace: Workspace) -> None:
    merged, rng, killed = run / "merged", random.Random(7), 0
    while killed < KILLS:
        hit = killed_while_writing(merged, workspace, rng, format="merged")
        assert merged.exists() != hit
        shutil.rmtree(merged, ignore_errors=True)
        killed += hit
    assert completed(export(workspace, format="merged"), workspace)
    assert whole(merged) and not list(run.rglob(f".*{TEMPORARY}"))


@pytest.mark.skipif(not FULL, reason="make faults: an older merge that is replaced, and an ONNX build")
def test_an_older_artefact_stays_until_the_new_one_is_whole(run: Path, workspace: Workspace, tiny_model: Path) -> None:
    merged, rng, killed, seed = run / "merged", random.Random(11), 0, 2
    assert completed(export(workspace, format="merged"), workspace)
    while killed < KILLS:
        before, seed = file_hash(merged / "model.safetensors"), seed + 1
        lora_adapter(tiny_model, run / "adapter", seed=seed)
        write_manifest(run / "adapter")
        hit = killed_while_writing(merged, workspace, rng, format="merged")
        assert whole(merged) and (file_hash(merged / "model.safetensors") == before) == hit
        killed += hit
    build = run / "onnx" / "int4"
    assert killed_while_writing(build, workspace, rng, format="onnx", precision="int4")
    assert not build.exists()
    assert completed(export(workspace, format="onnx", precision="int4"), workspace)
    assert whole(build) and not list(run.rglob(f".*{TEMPORARY}"))
