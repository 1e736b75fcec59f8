"""A hundred starts at once, from several processes: one runs, the others wait, nothing is lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from phi3tune import jobs
from phi3tune.paths import Workspace
from tests import fakes
from tests.faults.victims import wait_until

PROCESSES, EACH = 4, 25
STARTER = """
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from phi3tune import jobs, system
from phi3tune.admission import Admission
from phi3tune.config import TrainConfig
from phi3tune.jobs import actions
from phi3tune.paths import Workspace
from tests import fakes

each, workspace = int(sys.argv[1]), Workspace.current()
system.start_process = fakes.start_fake_worker
actions.admit = lambda config, workspace, token: Admission(config, workspace.runs, None, "run")
gate = Barrier(each)

def start(_):
    gate.wait()
    return jobs.submit("train", TrainConfig(max_steps=1_000_000), workspace).name

sys.stdin.readline()
with ThreadPoolExecutor(each) as pool:
    print(*pool.map(start, range(each)))
"""


def test_a_hundred_simultaneous_starts(workspace: Workspace) -> None:
    command = [sys.executable, "-c", STARTER, str(EACH)]
    starters = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
        )
        for _ in range(PROCESSES)
    ]
    for starter in starters:  # all are ready when the line comes
        assert starter.stdin is not None
        starter.stdin.write("go\n")
        starter.stdin.flush()
    names = [name for starter in starters for name in starter.communicate(timeout=120)[0].split()]
    try:
        assert len(set(names)) == PROCESSES * EACH
        wait_until(lambda: any(job.state == "running" for job in jobs.active(workspace)))
        found = jobs.active(workspace)
        assert {job.id for job in found} == set(names) == {job.id for job in jobs.runs(workspace)}
        assert [job.queue_position for job in found if job.state == "queued"] == list(range(1, PROCESSES * EACH))
        [first] = [job for job in found if job.state == "running"]
        assert first.queue_position is None
    finally:
        end_all(workspace)
    assert jobs.active(workspace) == []


def end_all(workspace: Workspace) -> None:
    for job in reversed(jobs.active(workspace)):  # the one that runs last, so that no other begins
        jobs.stop(job.folder, workspace, now=True)
    fakes.kill_workers()
