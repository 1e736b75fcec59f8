"""One run in several processes, on one machine or several: the supervisor's side.

The worker stays what it is: it holds the run's lock and writes its status. It starts torchrun, which starts one
`phi3tune.training.rank` for each process. Their pipes carry JSON lines: process 0 sends the run's typed events, the
first process of the machine its result, a failing process its reason, the launcher the first death; a `stop` goes the
other way, and its end means that the supervisor is gone. Lines of any other kind are for the log.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from subprocess import PIPE
from typing import IO, Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from phi3tune import system
from phi3tune.config import TrainConfig
from phi3tune.errors import UserError
from phi3tune.events import Event, Reporter
from phi3tune.paths import Workspace, write_text

POLL_SECONDS = 0.2
STOP = b"stop\n"


class ProcessDiedError(RuntimeError):
    """A process of the run ended before the run did. The run can be resumed."""


class Order(BaseModel):
    """What every process is told to do. Process 0 decides whether the run is resumed."""

    config: TrainConfig
    run_dir: Path
    workspace: Path
    resume: bool


class Reason(BaseModel):
    """Why a process gives up."""

    rank: int
    reason: str
    user_error: bool = False


class Death(BaseModel):
    """The first process that ended badly, as torchrun saw it; a negative code is a signal."""

    rank: int
    code: int


class Message(BaseModel):
    """One line of a pipe."""

    event: Event | None = None
    result: dict[str, Any] | None = None
    reason: Reason | None = None
    death: Death | None = None

    def line(self) -> bytes:
        return self.model_dump_json(exclude_none=True).encode() + b"\n"


_MESSAGE = TypeAdapter(Message)


def problems(config: TrainConfig, *, gpu: bool) -> list[str]:
    """What keeps the processes from starting on this machine, in words. `gpu` tells whether it has one."""
    found = []
    if config.sharding != "none" and not gpu:
        found.append(
            f"--sharding {config.sharding} divides the memory of GPUs and this machine has none; use --sharding none"
        )
    if config.sharding.startswith("deepspeed") and find_spec("deepspeed") is None:
        found.append(
            f"--sharding {config.sharding} needs the package deepspeed; pip install deepspeed, or use --sharding fsdp"
        )
    return found


def train(
    config: TrainConfig, run_dir: Path, workspace: Workspace, reporter: Reporter, *, resume: bool
) -> dict[str, Any]:
    """Train in `config.processes` processes of this machine and return the run's result, as `run.train` does.

    Raises `UserError` for what a process raised it for, and `ProcessDiedError` when one ended otherwise.
    """
    if config.machine_rank:
        raise UserError(
            f"--machine-rank {config.machine_rank} keeps no run: join with `phi3tune train` on the command line"
        )
    return _supervise(Order(config=config, run_dir=run_dir, workspace=workspace.root, resume=resume), reporter)


class _Nobody:
    """The reporter of a machine that keeps no run: machine 0 tells, and is told to stop."""

    def emit(self, event: Event) -> None: ...

    def stop_requested(self) -> bool:
        return False


def join(config: TrainConfig, workspace: Workspace) -> dict[str, Any]:
    """Be one of the machines that do not keep the run: `config.machine_rank` above 0. Returns the run's result.

    Raises as `train`. Of the run, nothing is left on this machine.
    """
    with tempfile.TemporaryDirectory(prefix="phi3tune-") as folder:
        order = Order(config=config, run_dir=Path(folder) / "run", workspace=workspace.root, resume=False)
        order.run_dir.mkdir()
        return _supervise(order, _Nobody())


def torchrun_options(config: TrainConfig) -> list[str]:
    """Options of torchrun for this machine.

    `PHI3TUNE_MAIN_ADDRESS` in the environment wins over the setting: a resumed run may be on other machines.
    """
    options = ["--nproc-per-node", str(config.processes), "--max-restarts", "0"]
    if config.machines == 1:
        return [*options, "--standalone"]
    host, _, port = os.environ.get("PHI3TUNE_MAIN_ADDRESS", config.main_address).rpartition(":")
    return [
        *options,
        *("--nnodes", str(config.machines), "--node-rank", str(config.machine_rank)),
        *("--master-addr", host.strip("[]"), "--master-port", port),
    ]


def sharding_arguments(config: TrainConfig) -> dict[str, Any]:
    """What transformers' `TrainingArguments` take for `config.sharding`: FSDP2, or a DeepSpeed configuration.

    Its "auto" values are filled in by transformers from the other arguments. Not run: both need GPUs.
    """
    if config.sharding == "none":
        return {}
    if config.sharding == "fsdp":
        layers = {"auto_wrap_policy": "TRANSFORMER_BASED_WRAP", "transformer_layer_cls_to_wrap": ["Phi3DecoderLayer"]}
        # Whole weights in checkpoints: they are what every other part of this program reads.
        return {"fsdp": True, "fsdp_config": {"version": 2, **layers, "state_dict_type": "FULL_STATE_DICT"}}
    stage = int(config.sharding.removeprefix("deepspeed_zero"))
    zero = {"stage": stage, "overlap_comm": True, "contiguous_gradients": True}
    if stage == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = True
    automatic = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps")
    return {
        "deepspeed": {
            "zero_optimization": zero,
            "bf16": {"enabled": "auto"},
            "fp16": {"enabled": "auto"},
            "gradient_clipping": "auto",
            **dict.fromkeys(automatic, "auto"),
        }
    }


def _supervise(order: Order, reporter: Reporter) -> dict[str, Any]:
    config = order.config
    with tempfile.TemporaryDirectory(prefix="phi3tune-") as folder:
        told = Path(folder) / "order.json"
        write_text(told, order.model_dump_json())
        child = system.start_process(
            [
                *(sys.executable, "-m", "phi3tune.training.launcher"),
                *torchrun_options(config),
                *("-m", "phi3tune.training.rank", str(told)),
            ],
            stdin=PIPE,
            output=PIPE,
            errors=sys.__stderr__.fileno() if sys.__stderr__ is not None else None,
            # Read when torch is loaded. A thread for each core in every process would have them wait for each other.
            env={"OMP_NUM_THREADS": str(max(1, system.cores() // config.processes))},
        )
        assert child.stdin is not None and child.stdout is not None
        done = threading.Event()
        messenger = threading.Thread(target=_pass_on_stop, args=(reporter, child.stdin, done), daemon=True)
        messenger.start()
        try:
            result, reasons, death = _listen(child.stdout, reporter)
            code = child.wait()
        finally:
            done.set()
            messenger.join()
            child.stdin.close()
            system.kill_group(child.pid)
            child.wait()
            child.stdout.close()
    if result is not None and code == 0:
        return result
    raise _failure(config, reasons, death, code)


def _pass_on_stop(reporter: Reporter, pipe: IO[bytes], done: threading.Event) -> None:
    while not done.wait(POLL_SECONDS):
        if reporter.stop_requested():
            with suppress(OSError):  # the processes are ending
                pipe.write(STOP)
                pipe.flush()
            return


def _listen(pipe: IO[bytes], reporter: Reporter) -> tuple[dict[str, Any] | None, list[Reason], Death | None]:
    """Pass events on until the pipe ends; the result, the processes' reasons to give up, the first death."""
    result, reasons, death = None, [], None
    for line in pipe:
        try:
            message = _MESSAGE.validate_json(line)
        except ValidationError:
            sys.stderr.write(line.decode("utf-8", "replace"))
            continue
        if message.event is not None:
            reporter.emit(message.event)
        result = message.result if message.result is not None else result
        death = message.death or death
        if message.reason is not None:
            reasons.append(message.reason)
    return result, reasons, death


def _failure(config: TrainConfig, reasons: list[Reason], death: Death | None, code: int) -> Exception:
    mistake = next((reason for reason in reasons if reason.user_error), None)
    if mistake is not None:
        return UserError(mistake.reason)
    world = config.processes * config.machines
    if death is None:
        return ProcessDiedError(f"torchrun ended with code {code} before the run did; the run can be resumed")
    named = f"training process {death.rank} of {world} (counted from 0)"
    if death.code < 0:
        return ProcessDiedError(f"{named} was killed by {system.signal_name(-death.code)}; the run can be resumed")
    why = next((reason.reason for reason in reasons if reason.rank == death.rank), f"code {death.code}")
    hint = "; another machine may have ended first" if config.machines > 1 else ""
    return ProcessDiedError(f"{named} failed: {why}{hint}; the run can be resumed")


def parse_order(path: Path) -> Order:
    """The order that a supervisor wrote."""
    return Order.model_validate(json.loads(path.read_text(encoding="utf-8")))
