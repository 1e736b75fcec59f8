"""Training curves as data frames for the page's line plots."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from phi3tune.events import Metrics
from phi3tune.ui.words import N, t

if TYPE_CHECKING:
    import pandas as pd

P = TypeVar("P")
MAX_POINTS = 300
TRAINING, VALIDATION, MACRO_F1 = N("training"), N("validation"), N("macro F1")
COLUMNS = ("step", "value", "series")
# Chart -> (metric, name of its series).
CHARTS: dict[str, tuple[tuple[str, str], ...]] = {
    "loss": (("loss", TRAINING), ("eval_loss", VALIDATION)),
    # Of tokens, or of labels where the model classifies.
    "token_accuracy": (
        ("token_accuracy", TRAINING),
        ("eval_token_accuracy", VALIDATION),
        ("eval_accuracy", VALIDATION),
        ("eval_macro_f1", MACRO_F1),
    ),
    "learning_rate": (("learning_rate", TRAINING),),
    "grad_norm": (("grad_norm", TRAINING),),
    "entropy": (("entropy", TRAINING),),
    "tokens_per_second": (("tokens_per_second", TRAINING),),
}
# Curves that runs are compared by.
COMPARED = {
    N("Training loss"): "loss",
    N("Validation loss"): "eval_loss",
    N("Training accuracy"): "token_accuracy",
    N("Validation accuracy"): "eval_token_accuracy",
    N("Macro F1"): "eval_macro_f1",
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


def thin(series: Sequence[P], limit: int = MAX_POINTS) -> list[P]:
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
        if series == TRAINING and chart != "learning_rate":
            curve = smooth(curve, smoothing)
        rows += [(step, value, t(series)) for step, value in thin(curve)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def overlay(curves: Mapping[str, Sequence[Sequence[float]]]) -> pd.DataFrame:
    """Long table `step, value, series` of one metric: a series of `[step, value]` for every run."""
    import pandas as pd

    rows = [(int(step), value, run) for run, series in curves.items() for step, value in thin(series)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def legend(series: Iterable[str]) -> str:
    """A legend title that nobody sees, another one for every set of series.

    Gradio's page gives a chart its series when it is drawn, and draws it anew only when such a property changes after
    the values have: without this, a series that comes later (the first validation, another run) would be missing.
    """
    names = "\n".join(sorted(set(series)))
    return "\u200b" * (1 + zlib.crc32(names.encode()) % 61)
