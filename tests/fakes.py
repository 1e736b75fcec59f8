"""Small stand-ins that the tests share."""

from __future__ import annotations

import errno
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from phi3tune import system

_start_process = system.start_process
TOKENIZER = Path(__file__).parent / "fixtures" / "phi3-mini-4k-tokenizer"


def tiny_phi3(folder: Path, *, tokenizer: Path = TOKENIZER, seed: int = 0, **changes: Any) -> Path:
    """A random Phi-3 with a real tokenizer: hidden 64, 2 layers, saved as safetensors in fp32."""
    import torch
    from transformers import GenerationConfig, Phi3Config, Phi3ForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    official = json.loads((tokenizer / "config.json").read_text())
    generation = json.loads((tokenizer / "generation_config.json").read_text())
    settings = {
        "vocab_size": official["vocab_size"],
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 512,
        "original_max_position_embeddings": 512,
        "bos_token_id": official["bos_token_id"],
        "eos_token_id": official["eos_token_id"],
        "pad_token_id": official["pad_token_id"],
        "sliding_window": None,
    }
    torch.manual_seed(seed)
    model = Phi3ForCausalLM(Phi3Config(**{**settings, **changes}))
    model.generation_config = GenerationConfig(
        bos_token_id=generation["bos_token_id"],
        eos_token_id=generation["eos_token_id"],
        pad_token_id=generation["pad_token_id"],
    )
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer / name, folder / name)
    return folder


class RecordingReporter:
    """Keeps what a job says; asks it to stop when `stop_when(event)` was true once."""

    def __init__(self, stop_when: Any = None) -> None:
        self.events: list[Any] = []
        self._stop_when = stop_when
        self._stop = False

    def emit(self, event: Any) -> None:
        self.events.append(event)
        if self._stop_when is not None and self._stop_when(event):
            self._stop = True

    def stop_requested(self) -> bool:
        return self._stop

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


FAKE_WORKER = [
    sys.executable,
    "-c",
    "import sys, pathlib, tests.fakes as fakes; sys.exit(fakes.fake_worker_main(pathlib.Path(sys.argv[1])))",
]


def start_fake_worker(argv: Any, **options: Any) -> Any:
    """In place of `system.start_process`: the worker that is asked for, counting instead of training.

    Other processes, such as the reader of datasets, are started as they are.
    """
    if list(argv[1:3]) != ["-m", "phi3tune.worker"]:
        return _start_process(argv, **options)
    options["env"] = {**options["env"], "PYTHONPATH": str(Path(__file__).parents[1])}
    return _start_process([*FAKE_WORKER, argv[3]], **options)


def kill_workers() -> None:
    """End the workers that a test left behind: its own children, and those that a worker started as its last act."""
    from phi3tune.jobs import workers
    from phi3tune.paths import Workspace
    from phi3tune.store import queue

    workspace = Workspace.current()
    if workspace.database.exists():
        with queue(workspace) as line:
            left = [entry.pid for entry in line.entries() if entry.pid is not None]
        for pid in left:
            system.kill_group(pid)
    for child in workers.children.values():
        if child.poll() is None:
            system.kill_group(child.pid)
        child.wait()
    workers.children.clear()


def fake_worker_main(folder: Path) -> int:
    """A worker whose work is to count: `max_steps` steps of 10 ms, a checkpoint at every second one.

    The run's name says how it ends: names with `crash` raise at step 3 of their first attempt, names
    with `mistake` raise a `UserError` and names with `full` what a full disk raises; all others finish or stop when
    asked.
    """
    import time

    from phi3tune import worker

    system.start_process = start_fake_worker  # a worker's last act is to start the next one
    from phi3tune.errors import UserError
    from phi3tune.events import CheckpointSaved, Progress, Resumed

    def work(config: Any, folder: Path, workspace: Any, reporter: Any) -> dict[str, Any]:
        first = (reporter.status.resume_step or 0) + 1
        if first > 1:
            reporter.emit(Resumed(step=first - 1))
        for step in range(first, config.max_steps + 1):
            reporter.emit(Progress(done=step, total=config.max_steps))
            if step % 2 == 0:
                reporter.emit(CheckpointSaved(step=step))
            if "crash" in folder.name and step == 3 and first == 1:
                raise RuntimeError("the fake broke\nover two lines")
            if "full" in folder.name and step == 3:
                raise OSError(errno.ENOSPC, "No space left on device")
            if "mistake" in folder.name and step == 3:
                raise UserError("a mistake that only the worker could see")
            if reporter.stop_requested():
                return {"run": folder.name, "status": "stopped", "steps": step}
            time.sleep(0.01)
        return {"run": folder.name, "status": "completed", "steps": config.max_steps}

    worker._work = work
    return worker.run(folder)
