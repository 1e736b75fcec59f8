"""Plans: what they say of a run, on a machine that is given, and on the one that runs the tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from phi3tune import system
from phi3tune.cli import main
from phi3tune.config import TrainConfig, parse
from phi3tune.errors import UserError
from phi3tune.events import EventLog, Metrics
from phi3tune.paths import Workspace
from phi3tune.training import plan as plan_module
from phi3tune.training.machine import Machine
from phi3tune.training.plan import Plan, needs_checkpointing, number_bytes, plan
from phi3tune.training.settings import Rows
from tests.training.runs import write_rows

GB = 10**9
LAPTOP = Machine("cpu", "cpu", 16 * GB, False, {"256": 4e10, "1024": 8e10, "3072": 1e11}, 1.5e10, 500_000_000, 8.0)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "this_machine", lambda workspace: LAPTOP)
    monkeypatch.setattr(system, "memory", lambda: system.Memory(16 * GB, 8 * GB))


@pytest.fixture
def planned(tmp_path: Path, tiny_model: Path, workspace: Workspace, machine: None) -> Any:
    rows = write_rows(tmp_path / "lamps.jsonl")

    def make(**given: Any) -> Plan:
        values = {"dataset": str(rows), "model": str(tiny_model), "test_share": 0.0, "validation_share": 0.2, **given}
        return plan(parse(TrainConfig, values), workspace)

    return make


def leave(monkeypatch: pytest.MonkeyPatch, available: float) -> None:
    monkeypatch.setattr(system, "memory", lambda: system.Memory(16 * GB, int(available)))


def test_a_plan_counts_what_the_run_will_count(planned: Any) -> None:
    found = planned(epochs=2.0, batch_size=8, price_per_hour=3.6)
    assert found.rows + found.validation_rows == 40
    assert found.steps == 2 * -(-found.rows // 8)
    assert found.epochs == 2.0
    assert planned(max_steps=7).steps == 7
    assert found.seconds_low < found.seconds < found.seconds_high
    assert found.cost == pytest.approx(found.seconds / 1000, abs=0.006)
    assert found.verdict == "fits"
    assert found.remedy is None
    assert json.loads(json.dumps(found.as_dict()))["memory"]["peak"] == found.memory.peak


def test_earlier_runs_tell_the_speed(planned: Any, workspace: Workspace, tiny_model: Path) -> None:
    assert "matrix products" in planned().speed_source
    run = workspace.runs / "before"
    run.mkdir(parents=True)
    (run / "run.yaml").write_text(f"model: {tiny_model}\nmethod: lora\n")
    log = EventLog(run / "events.jsonl")
    for step, speed in enumerate((900.0, 1000.0, 1100.0)):
        log.append(Metrics(step=step, values={"tokens_per_second": speed}))
    found = planned()
    assert found.tokens_per_second == 1000.0
    assert "1 earlier run" in found.speed_source
    assert found.seconds_high / found.seconds_low < 2
    assert "matrix products" in planned(method="full").speed_source


def test_what_does_not_fit_is_told_with_one_change_that_helps(planned: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = planned(method="full", gradient_checkpointing="off", micro_batch=8)
    leave(monkeypatch, whole.memory.peak - 1)
    found = planned(method="full", gradient_checkpointing="off", micro_batch=8)
    assert found.verdict == "does_not_fit"
    assert found.remedy is not None
    assert found.remedy.peak < whole.memory.peak
    assert found.remedy.flag.startswith("--")
    again = planned(
        **{
            "method": "full",
            "gradient_checkpointing": "off",
            "micro_batch": 8,
            found.remedy.setting: found.remedy.value,
        }
    )
    assert again.memory.peak == found.remedy.peak
    assert again.verdict != "does_not_fit"
    leave(monkeypatch, 1000)
    hopeless = planned()
    assert (hopeless.verdict, hopeless.remedy) == ("does_not_fit", None)


def test_checkpointing_comes_when_memory_needs_it(planned: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = planned()
    assert not plain.checkpointing
    leave(monkeypatch, plain.memory.peak)
    tight = planned()
    assert tight.checkpointing
    assert tight.memory.peak < plain.memory.peak
    assert not planned(gradient_checkpointing="off").checkpointing


def test_a_worker_decides_on_checkpointing(tiny_model: Path, nano: Path) -> None:
    from phi3tune.chat import Example

    rows = Rows([], [Example(list(range(400)), list(range(400)), truncated=False)] * 8)
    auto = TrainConfig(dataset="x")
    roomy, narrow = 10 * GB, 10**6
    decide = {"micro": 4, "number": 4}
    assert not needs_checkpointing(auto, tiny_model, rows, **decide, gpu_free=roomy)  # type: ignore[arg-type]
    assert needs_checkpointing(auto, tiny_model, rows, **decide, gpu_free=narrow)  # type: ignore[arg-type]
    forced = auto.model_copy(update={"gradient_checkpointing": "off"})
    assert not needs_checkpointing(forced, tiny_model, rows, **decide, gpu_free=narrow)  # type: ignore[arg-type]


def test_disk_counts_checkpoints_and_the_result(planned: Any) -> None:
    few, many = planned(keep_checkpoints=1), planned(keep_checkpoints=5)
    assert many.disk_needed == pytest.approx(few.disk_needed * 3, rel=0.2)
    assert planned(method="full").disk_needed > few.disk_needed


def test_numbers_are_computed_in_what_the_machine_has() -> None:
    config = TrainConfig(dataset="x")
    assert number_bytes(config, LAPTOP, GB) == 4
    assert number_bytes(config.model_copy(update={"dtype": "bf16"}), LAPTOP, GB) == 2
    gpu = Machine("cuda", "GPU", 24 * GB, True, {"3072": 1e14}, 1e12, 0, 8.0)
    assert number_bytes(config, gpu, GB) == 2


def test_speeds_between_widths_are_in_between() -> None:
    assert LAPTOP.operations_per_second(100) == 4e10
    assert LAPTOP.operations_per_second(640) == pytest.approx(6e10)
    assert LAPTOP.operations_per_second(9000) == 1e11


def test_mistakes_are_those_of_the_run(planned: Any) -> None:
    with pytest.raises(UserError, match="no-such-model"):
        planned(model="no-such-model")
    with pytest.raises(UserError, match="no answer token"):
        planned(max_length=8)


def test_plan_on_the_command_line_starts_nothing(
    tmp_path: Path, tiny_model: Path, workspace: Workspace, machine: None, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = write_rows(tmp_path / "lamps.jsonl")
    asked = ["train", "--plan", "--dataset", str(rows), "--model", str(tiny_model)]
    assert main([*asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "fits"
    assert main([*asked, "--price-per-hour", "900"]) == 0
    text = capsys.readouterr().out
    assert "fits" in text
    assert "cost" in text
    assert workspace.run_folders() == []
