"""What a run's events add up to, over every attempt at it."""

from __future__ import annotations

from collections.abc import Iterable

from phi3tune.events import Event, Metrics, Reporter, Resumed


class History:
    """A reporter that passes events on and keeps them, behind those of earlier attempts at the run."""

    def __init__(self, reporter: Reporter, earlier: list[Event]) -> None:
        self._reporter = reporter
        self.events = earlier

    def emit(self, event: Event) -> None:
        self.events.append(event)
        self._reporter.emit(event)

    def stop_requested(self) -> bool:
        return self._reporter.stop_requested()


def kept_metrics(events: Iterable[Event]) -> list[Metrics]:
    """Metrics in order of steps: an attempt that resumed after step n replaces what was said of later steps."""
    kept: list[Metrics] = []
    for event in events:
        if isinstance(event, Resumed):
            kept = [metrics for metrics in kept if metrics.step <= event.step]
        elif isinstance(event, Metrics):
            kept.append(event)
    return kept


def train_loss(events: Iterable[Event]) -> float | None:
    """Mean loss per loss-bearing token over the whole run; None before the first step."""
    logged = [
        (metrics.values["loss"], metrics.weight)
        for metrics in kept_metrics(events)
        if metrics.weight and "loss" in metrics.values
    ]
    if not logged:
        return None
    return sum(loss * weight for loss, weight in logged) / sum(weight for _, weight in logged)


def last_value(events: Iterable[Event], name: str, *, at_step: int | None = None) -> float | None:
    """The newest value of one metric, such as `eval_loss`, or the one of a step; None when it was never measured."""
    values = [
        metrics.values[name]
        for metrics in kept_metrics(events)
        if name in metrics.values and at_step in (None, metrics.step)
    ]
    return values[-1] if values else None
