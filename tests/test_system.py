from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from phi3tune import system


def test_cores_follow_the_affinity_of_the_process() -> None:
    first = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, {{{first}}}); from phi3tune import system; print(system.cores())"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert out.strip() == "1"


@pytest.mark.parametrize(("text", "expected"), [("150000 100000", 2), ("50000 100000", 1), ("max 100000", 64)])
def test_cores_follow_the_quota_of_the_cgroup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: int
) -> None:
    (tmp_path / "cpu.max").write_text(text + "\n")
    monkeypatch.setattr(system, "_CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))
    assert system.cores() == expected


def test_memory_follows_the_limit_of_the_cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    monkeypatch.setattr(system, "_CGROUP", tmp_path)
    assert system.memory() == system.Memory(1_000_000, 600_000)


def test_a_lock_is_free_when_its_holder_is_dead(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    code = (
        "import sys, pathlib; from phi3tune.system import FolderLock\n"
        "lock = FolderLock(pathlib.Path(sys.argv[1]))\n"
        "assert lock.acquire(); print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    assert system.is_locked(path)
    holder.kill()
    holder.communicate()
    assert not system.is_locked(path)


def test_a_taken_port_has_a_problem_and_a_free_one_has_none() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert "in use" in (system.port_problem("127.0.0.1", port) or "")
    assert system.port_problem("127.0.0.1", port) is None


def test_killing_a_group_takes_its_children() -> None:
    code = "import subprocess, sys; p = subprocess.Popen(['sleep', '60']); print(p.pid, flush=True); p.wait()"
    child = system.start_process([sys.executable, "-u", "-c", code], output=subprocess.PIPE)
    assert child.stdout is not None
    grandchild = int(child.stdout.readline())
    system.kill_group(child.pid)
    child.communicate()
    assert not system.process_started(grandchild, near=0) and system.process_memory(grandchild) == 0
    system.kill_group(child.pid)


def test_peak_memory_is_this_process_own() -> None:
    assert system.peak_memory() >= system.process_memory() > 0
    code = "from phi3tune import system; print(system.peak_memory())"
    held = b"x" * 300_000_000  # the peak of whoever starts a process is not that process's
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0 < int(child.stdout) < len(held)


def test_processes_reading_a_folder(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"w" * 5000)
    assert system.processes_reading(tmp_path) == []
    with file.open("rb"):
        assert system.processes_reading(tmp_path) == [os.getpid()]
    assert system.processes_reading(tmp_path) == []
