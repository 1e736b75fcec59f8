"""A run in several processes: equal to a run in one, and resumed after one of them is killed."""

from __future__ import annotations

import json
import re
import signal
from typing import Any

import psutil
import pytest

from phi3tune.config import TrainConfig
from phi3tune.errors import UserError
from phi3tune.events import CheckpointSaved, Metrics, Resumed
from phi3tune.training import spread
from tests.training.runs import NewRun, Run

# 32 training rows: the third step of an epoch has 8 of 12 rows, so one process gets fewer of them than the other.
SETTINGS: dict[str, Any] = {
    "max_steps": 7,
    "batch_size": 12,
    "micro_batch": 2,
    "lora_dropout": 0.0,
    "eval_steps": 4,
    "save_steps": 2,
    "sample_count": 1,
}


def curve(run: Run, name: str) -> dict[int, float]:
    """A metric by step, the latest attempt's."""
    return {
        metrics.step: metrics.values[name]
        for reporter in run.reporters
        for metrics in reporter.of(Metrics)
        if name in metrics.values
    }


@pytest.fixture(scope="module")
def alone(new_run: NewRun) -> Run:
    run = new_run(**SETTINGS)
    run.go()
    return run


def assert_equal(run: Run, alone: Run) -> None:
    for name in ("loss", "eval_loss", "grad_norm", "token_accuracy", "entropy", "learning_rate"):
        assert curve(run, name) == pytest.approx(curve(alone, name), rel=1e-5), name
    ours, theirs = run.result, alone.result
    same = ("status", "steps", "rows", "tokens", "trained_tokens", "best_step")
    assert [ours[name] for name in same] == [theirs[name] for name in same]
    assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-5)


@pytest.mark.slow
@pytest.mark.alone
def test_two_processes_equal_one(alone: Run, new_run: NewRun):
    run = new_run(**SETTINGS, processes=2)
    run.go()
    assert_equal(run, alone)
    weights = [metrics.weight for metrics in run.reporter.of(Metrics) if "loss" in metrics.values]
    assert weights == [metrics.weight for metrics in alone.reporter.of(Metrics) if "loss" in metrics.values]
    assert (run.folder / "adapter" / "adapter_model.safetensors").is_file()
    manifest = json.loads((run.folder / "checkpoints" / "checkpoint-7" / "manifest.json").read_text())
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= manifest["files"].keys()


def ranks_of(run: Run) -> dict[int, psutil.Process]:
    """The processes of a run by their rank."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        if "phi3tune.training.rank" in process.cmdline() and "phi3tune.training.launcher" not in process.cmdline():
            found[int(process.environ()["RANK"])] = process
    return found


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("victim", [0, 1])
def test_the_death_of_one_is_named_and_the_run_resumes(alone: Run, new_run: NewRun, victim: int):
    run = new_run(**SETTINGS, processes=2)
    killed: list[psutil.Process] = []

    def kill(event: Any) -> bool:
        if isinstance(event, CheckpointSaved) and event.step == 4 and not killed:
            killed.extend(ranks_of(run).values())
            ranks_of(run)[victim].send_signal(signal.SIGKILL)
        return False

    with pytest.raises(spread.ProcessDiedError, match=rf"process {victim} of 2 .* SIGKILL.*resumed"):
        run.go(stop_when=kill)
    assert len(killed) == 2
    assert not psutil.wait_procs(killed, timeout=10)[1]
    run.go(resume=True)
    assert run.reporter.of(Resumed)[0].step in (2, 4, 6)
    assert_equal(run, alone)


@pytest.mark.slow
@pytest.mark.alone
def test_all_stop_at_the_same_step_and_go_on(alone: Run, new_run: NewRun):
    run = new_run(**SETTINGS, processes=2)
    stopped = run.go(stop_when=lambda event: isinstance(event, Metrics) and event.step == 2)
    assert stopped["status"] == "stopped"
    assert 3 <= stopped["steps"] < 7
    run.go(resume=True)
    assert [event.step for event in run.reporter.of(Resumed)] == [stopped["steps"]]
    assert_equal(run, alone)


@pytest.mark.slow
@pytest.mark.alone
def test_a_users_mistake_in_a_process_is_told_as_one(new_run: NewRun):
    run = new_run(**SETTINGS, processes=2)
    run.config = run.config.model_copy(update={"dataset": str(run.folder / "gone.jsonl")})
    with pytest.raises(UserError, match=r"gone\.jsonl"):
        run.go()


def test_a_machine_that_keeps_no_run_is_not_started_as_a_job(new_run: NewRun):
    run = new_run(processes=2, machines=2, machine_rank=1)
    with pytest.raises(UserError, match="keeps no run"):
        run.go()


def test_options_of_torchrun_are_ones_it_knows():
    from torch.distributed.run import parse_args

    config = TrainConfig(processes=4, machines=3, machine_rank=2, main_address="[fd00::7]:29511")
    given = parse_args([*spread.torchrun_options(config), "-m", "a.module", "order.json"])
    assert (given.nproc_per_node, given.nnodes, given.node_rank, given.max_restarts) == ("4", "3", 2, 0)
    assert (given.master_addr, given.master_port) == ("fd00::7", 29511)
    assert (given.module, given.training_script, given.training_script_args) == (True, "a.module", ["order.json"])
    assert parse_args([*spread.torchrun_options(TrainConfig(processes=2)), "x.py"]).standalone


@pytest.mark.parametrize(
    ("sharding", "gpu", "words"),
    [
        ("fsdp", False, ["divides the memory of GPUs .* use --sharding none"]),
        ("fsdp", True, []),
        ("deepspeed_zero3", True, ["pip install deepspeed, or use --sharding fsdp"]),
        ("deepspeed_zero2", False, ["this machine has none", "pip install deepspeed"]),
        ("none", False, []),
    ],
)
def test_what_a_machine_cannot_do_is_refused_with_a_way_out(monkeypatch, sharding: Any, gpu: bool, words: list[str]):
    monkeypatch.setattr(spread, "find_spec", lambda name: None)
    problems = spread.problems(TrainConfig(sharding=sharding, processes=2), gpu=gpu)
    assert len(problems) == len(words)
    assert all(re.search(word, problem) for word, problem in zip(words, problems, strict=True))


def test_accelerate_reads_the_settings_of_sharding(tmp_path):
    from accelerate.utils.dataclasses import FullyShardedDataParallelPlugin
    from accelerate.utils.deepspeed import HfDeepSpeedConfig
    from trl import SFTConfig

    assert spread.sharding_arguments(TrainConfig()) == {}
    fsdp = spread.sharding_arguments(TrainConfig(sharding="fsdp", processes=2))
    arguments = SFTConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, activation_checkpointing=False, **fsdp)
    plugin = FullyShardedDataParallelPlugin(**arguments.fsdp_plugin_args)
    assert plugin.fsdp_version == 2
    assert plugin.transformer_cls_names_to_wrap == ["Phi3DecoderLayer"]
    assert plugin.state_dict_type.name == "FULL_STATE_DICT"
    for stage in (2, 3):
        given = spread.sharding_arguments(TrainConfig(sharding=f"deepspeed_zero{stage}", processes=2))
        read = HfDeepSpeedConfig(given["deepspeed"])
        assert (read.is_zero2(), read.is_zero3(), read.is_offload()) == (stage == 2, stage == 3, False)
