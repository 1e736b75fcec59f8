"""Detectors on curves: each speaks for its own fault, once, and none on a healthy run."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from phi3tune.config import TrainConfig
from phi3tune.events import Metrics, Notice
from phi3tune.training import warnings
from phi3tune.training.warnings import Alarms, Curves

HEALTHY = Path(__file__).parents[1] / "fixtures" / "healthy_run.jsonl"


def curve(count: int, *, evaluate: int = 0, **values: Callable[[int], float]) -> list[Metrics]:
    """`count` logged points with functions of the step, over those of a quiet run; an evaluation at every so many."""
    usual: dict[str, Callable[[int], float]] = {
        "loss": lambda step: 2.0 / step**0.5,
        "grad_norm": lambda step: 0.5,
        "tokens_per_second": lambda step: 1000.0,
        "learning_rate": lambda step: 3e-4,
        "eval_loss": lambda step: 2.1 / step**0.5,
    }
    functions = {**usual, **values}
    points = []
    for step in range(1, count + 1):
        told = {name: function(step) for name, function in functions.items() if name != "eval_loss"}
        points.append(Metrics(step=step, weight=100, values=told))
        if evaluate and step % evaluate == 0:
            points.append(Metrics(step=step, values={"eval_loss": functions["eval_loss"](step)}))
    return points


def seen(points: list[Metrics], **settings: object) -> list[Notice]:
    alarms = Alarms(TrainConfig(**settings))
    return [notice for metrics in points for notice in alarms.see(metrics)]


def noisy(level: float, share: float = 0.05) -> Callable[[int], float]:
    numbers = random.Random(1)
    return lambda step: level * (1 + numbers.gauss(0, share))


def test_a_recorded_healthy_run_is_not_warned_of():
    """A LoRA run of phi3-nano on lantern-support, on a machine that was busy now and then."""
    lines = HEALTHY.read_text().splitlines()
    points = [Metrics.model_validate_json(line) for line in lines]
    assert len(points) > 200
    assert seen(points) == []
    assert seen(curve(400, evaluate=80)) == []


def collapse(before: float, after: float, at: int) -> Callable[[int], float]:
    return lambda step: before if step < at else after


FAULTS: dict[str, list[Metrics]] = {
    "loss_flat": curve(200, loss=noisy(8.9)),
    "loss_rising": curve(80, loss=lambda step: 2.0 - step * 0.05 if step < 20 else 1.0 + (step - 20) * 0.05),
    "gradient_exploding": curve(40, grad_norm=collapse(0.4, 30.0, 30)),
    "overfitting": curve(60, evaluate=10, eval_loss=lambda step: 1.0 + abs(step - 20) * 0.005),
    "eval_worse_than_start": curve(20, evaluate=10, loss=lambda step: 2.0 - step * 0.01, eval_loss=lambda step: 2.6),
    "slow": curve(60, tokens_per_second=collapse(1000.0, 200.0, 30)),
}


@pytest.mark.parametrize("code", FAULTS)
def test_each_fault_is_named_once_with_a_cause_and_an_action(code: str):
    notices = seen(FAULTS[code])
    assert [notice.code for notice in notices] == [code]
    assert notices[0].level == "warning"
    assert ":" in notices[0].message or "too high" in notices[0].message
    assert notices[0].action


def test_detectors_are_all_tested_and_named_after_their_codes():
    assert {detector.__name__ for detector in warnings.DETECTORS} == set(FAULTS)


def test_what_was_told_before_a_resume_is_not_told_again():
    points = FAULTS["slow"]
    alarms = Alarms(TrainConfig(), earlier=points[:55], told=["slow"])
    assert [notice for metrics in points[55:] for notice in alarms.see(metrics)] == []
    fresh = Alarms(TrainConfig(), earlier=points[:55])
    assert [notice.code for metrics in points[55:] for notice in fresh.see(metrics)] == ["slow"]


GOOD: dict[str, list[Metrics]] = {
    "noise that hides what is learned": curve(200, loss=noisy(2.0, 0.5)),
    "hardly anything left to learn": curve(60, loss=noisy(0.02)),
    "one spike of the gradient": curve(60, grad_norm=lambda step: 50.0 if step == 40 else 0.4),
    "gradients that grow and stay small": curve(60, grad_norm=collapse(0.01, 0.5, 30)),
    "one evaluation above the best": curve(40, evaluate=10, eval_loss=lambda step: 1.2 if step == 30 else 1.0),
    "a pause of the machine": curve(60, tokens_per_second=lambda step: 10.0 if step == 50 else 1000.0),
}


@pytest.mark.parametrize("name", GOOD)
def test_what_happens_in_good_runs_is_no_fault(name: str):
    assert seen(GOOD[name]) == []


def test_losses_that_cannot_be_compared_are_not():
    """The dft loss is smaller than the cross entropy of an evaluation from the start."""
    points = curve(20, evaluate=10, loss=lambda step: 0.5 - step * 0.01, eval_loss=lambda step: 2.0 - step * 0.05)
    assert [notice.code for notice in seen(points)] == ["eval_worse_than_start"]
    assert seen(points, loss="dft") == []


def test_slow_names_swapping_as_its_cause_where_it_is():
    curves = Curves()
    for metrics in FAULTS["slow"]:
        curves.add(metrics)
    swapped, busy = warnings.slow(curves, lambda: 500_000_000), warnings.slow(curves, lambda: 0)
    assert swapped is not None and "500 MB of the run are swapped to disk" in swapped.message
    assert busy is not None and "another program" in busy.message


def test_most_rows_cut_has_a_code_of_its_own():
    few, most = (warnings.rows_cut(cut, 100, 64, "a.jsonl row 1") for cut in (50, 51))
    assert (few.code, most.code) == ("rows_truncated", "most_rows_truncated")
    assert most.message.startswith("51 of 100 rows are longer than 64 tokens") and most.action == "raise --max-length"


def test_the_fixture_holds_what_the_detectors_read():
    first = json.loads(HEALTHY.read_text().splitlines()[0])
    assert set(first["values"]) == {"loss", "grad_norm", "tokens_per_second", "learning_rate"}
