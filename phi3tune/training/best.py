"""Which evaluation of a run was the best, and when to stop waiting for a better one."""

from __future__ import annotations

from collections.abc import Iterable

from phi3tune.config import TrainConfig, WatchedMetric
from phi3tune.events import Metrics


def improves(metric: WatchedMetric, value: float, on: float) -> bool:
    """Whether `value` is the better one: a loss is better when lower, every other metric when higher."""
    return value < on if metric == "eval_loss" else value > on


class Best:
    """Follows one metric over the evaluations of a run. `step` and `value` are the best so far, None before any."""

    def __init__(self, config: TrainConfig, earlier: Iterable[Metrics] = ()) -> None:
        self.metric: WatchedMetric = config.best_metric
        self.step: int | None = None
        self.value: float | None = None
        self._delta = config.early_stopping_delta
        self._patience = config.early_stopping
        self._waited = 0
        for metrics in earlier:
            self.see(metrics.step, metrics.values)

    def see(self, step: int, values: dict[str, float]) -> bool:
        """Take note of an evaluation; True when it is the best so far. Other metrics are passed over."""
        value = values.get(self.metric)
        if value is None:
            return False
        better = self.value is None or improves(self.metric, value, self.value)
        # As transformers' EarlyStoppingCallback: the best is any better one, waiting ends with one better by `delta`.
        counts = self.value is None or (better and abs(value - self.value) > self._delta)
        self._waited = 0 if counts else self._waited + 1
        if better:
            self.step, self.value = step, value
        return better

    @property
    def exhausted(self) -> bool:
        """Whether as many evaluations in a row as early stopping waits for brought nothing better."""
        return self._patience is not None and self._waited >= self._patience
