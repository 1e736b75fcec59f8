"""Models beside each other: an interval for every value and every difference, and one plain verdict for each pair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from phi3tune.config import EvalConfig
from phi3tune.engines.models import ModelRef
from phi3tune.evaluation import certainty
from phi3tune.evaluation.measures import Measures
from phi3tune.evaluation.metrics import Metric, Plan

_SAME = 1e-9  # two values of a row that differ by less are a tie


class Comparison:
    """Resamples of all metrics of all models, from the same draws of rows; `measures` are in the order of `refs`."""

    def __init__(self, plan: Plan, measures: Sequence[Measures], refs: Sequence[ModelRef], config: EvalConfig) -> None:
        self._plan = plan
        self._measures = measures
        self._refs = refs
        resampling = certainty.Resampling(measures[0].total, resamples=config.resamples, seed=config.eval_seed)
        self._drawn = [_drawn(resampling, plan.metrics, each) for each in measures]

    def intervals(self, model: int) -> dict[str, list[float]]:
        """By metric, the interval of one model's own value."""
        found = {}
        for metric in self._plan.metrics:
            value = self._measures[model].value(metric)
            if value is not None:
                drawn, limits = self._drawn[model][metric.name], (0.0, 1.0) if metric.mean_of_shares else None
                bounds = certainty.bounds(value, drawn, self._measures[model].rows(metric), limits=limits)
                if bounds is not None:
                    found[metric.name] = list(bounds)
        return found

    def against_first(self, model: int) -> dict[str, Any]:
        """A later model against the first: every difference, wins and losses of rows, and the verdict."""
        metric = self._plan.primary
        differences = {each.name: found for each in self._plan.metrics if (found := self._difference(model, each))}
        wins, losses, ties = self._flips(model, metric)
        found = differences.get(metric.name)
        verdict, needed = "undecided", None
        if found is not None and metric.better is not None:
            sign = 1 if metric.better == "higher" else -1
            if sign * found["low"] > 0 and sign * found["high"] > 0:
                verdict = "better"
            elif sign * found["low"] < 0 and sign * found["high"] < 0:
                verdict = "worse"
            else:
                drawn = self._drawn[model][metric.name] - self._drawn[0][metric.name]
                needed = certainty.rows_needed(found["difference"], drawn, self._rows(model, metric))
        return {
            "model": self._refs[model].ref,
            "against": self._refs[0].ref,
            "metric": metric.name,
            "differences": differences,
            "wins": wins,
            "losses": losses,
            "ties": ties,
            "p_value": certainty.sign_test(wins, losses),
            "verdict": verdict,
            "sentence": self._sentence(model, metric, found, verdict, needed),
            "rows_needed": needed,
        }

    def _difference(self, model: int, metric: Metric) -> dict[str, float] | None:
        value, first = self._measures[model].value(metric), self._measures[0].value(metric)
        if value is None or first is None:
            return None
        drawn = self._drawn[model][metric.name] - self._drawn[0][metric.name]
        limits = (-1.0, 1.0) if metric.mean_of_shares else None
        bounds = certainty.bounds(value - first, drawn, self._rows(model, metric), limits=limits)
        if bounds is None:
            return None
        return {"difference": value - first, "low": bounds[0], "high": bounds[1]}

    def _flips(self, model: int, metric: Metric) -> tuple[int, int, int]:
        """Rows that the later model does better than the first, worse, and the same."""
        change = self._measures[model].row_values(metric) - self._measures[0].row_values(metric)
        change = change[np.isfinite(change)] * (-1 if metric.better == "lower" else 1)
        wins, losses = int((change > _SAME).sum()), int((change < -_SAME).sum())
        return wins, losses, len(change) - wins - losses

    def _rows(self, model: int, metric: Metric) -> int:
        """Rows behind a difference: of the one that has fewer, as an answer that is missing has no length."""
        return min(self._measures[each].rows(metric) for each in (0, model))

    def _sentence(
        self, model: int, metric: Metric, found: dict[str, float] | None, verdict: str, needed: int | None
    ) -> str:
        later, first = self._refs[model].label, self._refs[0].label
        title = in_sentence(metric)
        if found is None:
            known = all(self._measures[each].value(metric) is not None for each in (0, model))
            why = "one row is not enough" if known else f"one of them has no {title}"
            return f"{later} and {first} cannot be compared: {why}."
        scale, unit = (100, " points") if metric.unit == "share" else (1, "")
        digits = 1 if metric.unit == "share" else 2
        change = f"{scale * found['difference']:+.{digits}f}{unit}"
        bounds = f"{scale * found['low']:.{digits}f} to {scale * found['high']:.{digits}f}"
        numbers = f"{title} {change} (95 % interval {bounds}), {self._rows(model, metric):,} rows"
        if verdict == "better":
            return f"{later} is better than {first}: {numbers}."
        if verdict == "worse":
            return f"{later} is worse than {first}: {numbers}."
        enough = f"; about {needed:,} would be enough" if needed is not None else ""
        return f"Not enough rows to say whether {later} is better or worse than {first}: {numbers}{enough}."


def in_sentence(metric: Metric) -> str:
    """The title of a metric as it is written within a sentence."""
    return metric.title if metric.title[:2].isupper() else metric.title[0].lower() + metric.title[1:]


def _drawn(resampling: certainty.Resampling, metrics: Sequence[Metric], measures: Measures) -> dict[str, np.ndarray]:
    """By metric, its value in every resample [resamples]."""
    known = [metric for metric in metrics if metric.name in measures.counts]
    if not known:
        return {}
    sums = resampling.sums(np.hstack([measures.counts[metric.name] for metric in known]))
    edges = np.cumsum([measures.counts[metric.name].shape[1] for metric in known])
    parts = np.split(sums, edges[:-1], axis=1)
    return {metric.name: metric.statistic(part) for metric, part in zip(known, parts, strict=True)}
