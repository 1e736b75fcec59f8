"""What events, heartbeat and manifests cost a training run: the same run with and without them, in turns.

    python -m benchmarks.event_overhead [--steps 150] [--rounds 5]

phi3-nano is tuned on the bundled dataset in this process, `--steps` optimizer steps at a time. With: as the worker
does it (every event appended and folded into the status, a heartbeat every two seconds, checkpoints hashed and
synced to disk). Without: the same trainer, but events go nowhere, there is no heartbeat, and checkpoints are written
but neither hashed nor synced. Seconds are those of training, checkpoints included, loading not. Limit: 3 %.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from unittest import mock

from phi3tune import jobs, paths, worker
from phi3tune.config import TrainConfig
from phi3tune.events import Event, Status


class Nobody:
    """A reporter that does nothing."""

    def emit(self, event: Event) -> None: ...

    def stop_requested(self) -> bool:
        return False


def seconds(steps: int, *, told: bool) -> float:
    """Seconds of training of one run in a workspace of its own."""
    from phi3tune.training import train

    # Nothing is held out, so that the time is training's; intervals are those of any run.
    config = TrainConfig(dataset="lantern-support", max_steps=steps, validation_share=0.0, test_share=0.0)
    with ExitStack() as stack:
        workspace = paths.Workspace(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        folder = workspace.runs / "overhead"
        folder.mkdir(parents=True)
        if told:
            jobs.write_status(folder, Status(kind="train"))
            reporter = worker.FolderReporter(folder)
            reporter.begin()
            done = threading.Event()
            heart = threading.Thread(target=worker._beat_until, args=(done, reporter))
            heart.start()
            stack.callback(heart.join)
            stack.callback(done.set)
            return float(train(config, folder, workspace, reporter, resume=False)["train_seconds"])
        stack.enter_context(mock.patch.object(paths, "file_hash", return_value=""))
        stack.enter_context(mock.patch.object(paths, "fsync_path"))
        return float(train(config, folder, workspace, Nobody(), resume=False)["train_seconds"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    seconds(5, told=True)  # the first run loads the libraries
    # Who goes first changes from round to round: a machine that warms up or slows down favours neither.
    pairs = []
    for number in range(given.rounds):
        order = (True, False) if number % 2 else (False, True)
        pairs.append({told: seconds(given.steps, told=told) for told in order})
    cost = [pair[True] / pair[False] - 1 for pair in pairs]
    print(f"| {given.steps} steps, {given.rounds} rounds | median s |\n|---|---:|")
    print(f"| with events, heartbeat, manifests | {median(pair[True] for pair in pairs):.2f} |")
    print(f"| without | {median(pair[False] for pair in pairs):.2f} |")
    print(f"\nCost: {median(cost):+.1%} (median of pairs; {min(cost):+.1%} to {max(cost):+.1%}); limit 3 %.")


if __name__ == "__main__":
    main()
