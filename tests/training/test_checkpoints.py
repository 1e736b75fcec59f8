from pathlib import Path

import pytest

from phi3tune.errors import UserError
from phi3tune.events import Notice
from phi3tune.paths import write_manifest
from phi3tune.training.checkpoints import (
    checkpoint_folders,
    latest_checkpoint,
    need_disk,
    remove_after,
    rotate,
)
from tests.fakes import RecordingReporter


def checkpoint(run_dir: Path, step: int, *, complete: bool = True) -> Path:
    folder = run_dir / "checkpoints" / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "optimizer.pt").write_bytes(b"state of step %d" % step)
    if complete:
        write_manifest(folder)
    return folder


def test_newest_by_step_not_by_name_or_time(tmp_path: Path):
    for step in (100, 20, 9):
        checkpoint(tmp_path, step)
    assert latest_checkpoint(tmp_path) == (100, tmp_path / "checkpoints" / "checkpoint-100")


def test_no_checkpoint(tmp_path: Path):
    assert latest_checkpoint(tmp_path) is None


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: (folder / "manifest.json").unlink(), "never completed"),
        (lambda folder: (folder / "optimizer.pt").write_bytes(b"state of step X"), "optimizer.pt was altered"),
        (lambda folder: (folder / "optimizer.pt").unlink(), "optimizer.pt is missing"),
    ],
)
def test_falls_back_one_and_says_why(tmp_path: Path, damage, reason: str):
    older, newer = checkpoint(tmp_path, 3), checkpoint(tmp_path, 6)
    damage(newer)
    reporter = RecordingReporter()
    assert latest_checkpoint(tmp_path, reporter) == (3, older)
    [notice] = reporter.of(Notice)
    assert "checkpoint-6" in notice.message
    assert reason in notice.message


def test_untrusted_later_checkpoints_are_removed(tmp_path: Path):
    checkpoint(tmp_path, 3)
    checkpoint(tmp_path, 6, complete=False)
    remove_after(tmp_path, 3)
    assert [step for step, _ in checkpoint_folders(tmp_path)] == [3]


def test_rotation_keeps_the_newest_steps(tmp_path: Path):
    for step in (12, 3, 9, 6):
        checkpoint(tmp_path, step)
    rotate(tmp_path, keep=2)
    assert [step for step, _ in checkpoint_folders(tmp_path)] == [12, 9]


def test_a_full_disk_is_told_before_writing(tmp_path: Path):
    need_disk(tmp_path, 1)
    with pytest.raises(UserError, match=r"MB free.*needs 1,000,000,000\.0 MB.*resume"):
        need_disk(tmp_path, 10**15)
