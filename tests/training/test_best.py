"""The best evaluation, and early stopping."""

from __future__ import annotations

import pytest

from phi3tune.config import TrainConfig
from phi3tune.events import Metrics
from phi3tune.training.best import Best


def followed(values: list[float], **settings: object) -> tuple[Best, list[bool]]:
    best = Best(TrainConfig(**settings))
    name = best.metric
    return best, [best.see(step, {name: value}) for step, value in enumerate(values, 1)]


def test_a_loss_is_better_when_lower_and_other_metrics_when_higher():
    best, better = followed([2.0, 1.5, 1.6, 1.2])
    assert (best.step, best.value, better) == (4, 1.2, [True, True, False, True])
    best, better = followed([0.2, 0.5, 0.4], best_metric="eval_token_accuracy")
    assert (best.step, best.value, better) == (2, 0.5, [True, True, False])


def test_the_earliest_of_equals_stays_the_best_and_no_number_is_never_better():
    best, better = followed([1.0, 1.0, float("nan")])
    assert (best.step, better) == (1, [True, False, False])


def test_metrics_without_the_watched_one_are_passed_over():
    best = Best(TrainConfig(early_stopping=1))
    best.see(1, {"eval_loss": 1.0})
    assert not best.see(2, {"loss": 3.0}) and not best.exhausted


@pytest.mark.parametrize(
    ("values", "delta", "exhausted"),
    [
        ([1.0, 1.1, 1.2], 0.0, True),
        ([1.0, 1.1, 0.9], 0.0, False),
        ([1.0, 1.1, 1.2, 0.9], 0.0, False),  # it is asked after every evaluation: here the run had ended before
        ([1.0, 0.95, 0.91], 0.1, True),
        ([1.0, 0.85, 0.8], 0.1, False),
        ([1.0, 1.1], 0.0, False),
    ],
)
def test_early_stopping_waits_for_two_evaluations(values: list[float], delta: float, exhausted: bool):
    best, _ = followed(values, early_stopping=2, early_stopping_delta=delta)
    assert best.exhausted is exhausted


def test_agrees_with_transformers_early_stopping():
    """EarlyStoppingCallback over the same values: it stops at the same evaluation."""
    from transformers import EarlyStoppingCallback, TrainerControl, TrainerState, TrainingArguments

    values = [3.0, 2.5, 2.45, 2.6, 2.44, 2.43, 2.0, 1.99, 1.98, 2.3]
    arguments = TrainingArguments(
        output_dir="unused", metric_for_best_model="eval_loss", greater_is_better=False, use_cpu=True
    )
    for patience, delta in ((1, 0.0), (2, 0.1), (3, 0.1), (2, 0.0)):
        callback, state, control = EarlyStoppingCallback(patience, delta), TrainerState(), TrainerControl()
        best = Best(TrainConfig(early_stopping=patience, early_stopping_delta=delta))
        for step, value in enumerate(values):
            callback.on_evaluate(arguments, state, control, {"eval_loss": value})
            if state.best_metric is None or value < state.best_metric:  # as Trainer does after its callbacks
                state.best_metric = value
            best.see(step, {"eval_loss": value})
            assert best.exhausted is control.should_training_stop, (patience, delta, step)
            if best.exhausted:
                break


def test_earlier_attempts_count():
    earlier = [Metrics(step=step, values={"eval_loss": value}) for step, value in ((5, 1.0), (10, 1.2))]
    best = Best(TrainConfig(early_stopping=2), earlier)
    assert (best.step, best.exhausted) == (5, False)
    best.see(15, {"eval_loss": 1.3})
    assert best.exhausted
