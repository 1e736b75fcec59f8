"""Training curves as data frames for the page's line plots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from phi3tune.events import Metrics

if TYPE_CHECKING:
    import pandas as pd

MAX_POINTS = 300
COLUMNS = ("step", "value", "series")
# Chart -> (metric, name of its series).
CHARTS: dict[str, tuple[tuple[str, str], ...]] = {
    "loss": (("loss", "training"), ("eval_loss", "validation")),
    "token_accuracy": (("token_accuracy", "training"), ("eval_token_accuracy", "validation")),
    "learning_rate": (("learning_rate", "training"),),
    "grad_norm": (("grad_norm", "training"),),
}


def points(metrics: Sequence[Metrics], name: str) -> list[tuple[int, float]]:
    """`(step, value)` of one metric; a value that is not a number leaves a gap in the list."""
    return [(m.step, m.values[name]) for m in metrics if name in m.values and m.values[name] == m.values[name]]


def smooth(series: Sequence[tuple[int, float]], factor: float) -> list[tuple[int, float]]:
    """Exponential moving average with `factor` in 0 to 1, corrected for its start as TensorBoard does."""
    average, weight, out = 0.0, 0.0, []
    for step, value in series:
        average = factor * average + (1 - factor) * value
        weight = factor * weight + (1 - factor)
        out.append((step, average / weight))
    return out


def thin(series: Sequence[tuple[int, float]], limit: int = MAX_POINTS) -> list[tuple[int, float]]:
    """At most `limit` points, evenly spread, always with the first and the last."""
    if len(series) <= limit:
        return list(series)
    stride = (len(series) - 1) / (limit - 1)
    return [series[round(place * stride)] for place in range(limit)]


def frame(metrics: Sequence[Metrics], chart: str, smoothing: float) -> pd.DataFrame:
    """Long table `step, value, series` of one chart. Only training curves are smoothed: evaluations are few."""
    import pandas as pd

    rows = []
    for metric, series in CHARTS[chart]:
        curve = points(metrics, metric)
        if series == "training" and chart != "learning_rate":
            curve = smooth(curve, smoothing)
        rows += [(step, value, series) for step, value in thin(curve)]
    return pd.DataFrame(rows, columns=list(COLUMNS))
