"""Seconds from the start of a worker to its first optimizer step on phi3-nano, against importing TRL's trainer.

    python -m benchmarks.worker_start [rounds]

Both in new processes, in turns; the worker reads the bundled dataset, loads the model and takes one step. The first
row tokenises; `again` finds the tokens in the workspace's cache. Limit: 1.2 times `from trl import SFTTrainer`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from phi3tune import jobs
from phi3tune.config import TrainConfig
from phi3tune.events import Progress, Status, read_events
from phi3tune.paths import Workspace, write_text


def seconds_of_import() -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "from trl import SFTTrainer"], check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def seconds_to_step(workspace: Workspace, name: str) -> float:
    """Start a worker on a run of one step; the step's event tells when it ended."""
    folder = workspace.runs / name
    config = TrainConfig(dataset="lantern-support", max_steps=1, sample_count=0, name=name)
    job = {"schema": 1, "kind": "train", "config": config.model_dump(mode="json")}
    write_text(folder / jobs.JOB, json.dumps(job))
    jobs.write_status(folder, Status(kind="train"))
    environment = {**os.environ, "PHI3TUNE_HOME": str(workspace.root)}
    start = time.time()
    with (folder / jobs.LOG).open("wb") as log:
        command = [sys.executable, "-m", "phi3tune.worker", str(folder)]
        subprocess.run(command, check=True, stdout=log, stderr=log, env=environment)
    events, _ = read_events(folder / jobs.EVENTS)
    return next(event.time for event in events if isinstance(event, Progress) and event.done == 1) - start


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    seconds_of_import()  # the first one reads the disk
    turns = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as home:
            workspace = Workspace(Path(home))
            turns.append(
                (seconds_to_step(workspace, "first"), seconds_of_import(), seconds_to_step(workspace, "again"))
            )
    print(f"| what | median s | ratio, median of {rounds} | limit |\n|---|---:|---:|---:|")
    print(f"| from trl import SFTTrainer | {median(floor for _, floor, _ in turns):.2f} | 1 | |")
    print(
        f"| worker to first step | {median(first for first, _, _ in turns):.2f} "
        f"| {median(first / floor for first, floor, _ in turns):.2f} | 1.2 |"
    )
    print(
        f"| again, same data | {median(again for _, _, again in turns):.2f} "
        f"| {median(again / floor for _, floor, again in turns):.2f} | 1.2 |"
    )


if __name__ == "__main__":
    main()
