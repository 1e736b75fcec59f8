from __future__ import annotations

import math

import pandas as pd
import pytest

from phi3tune.events import Metrics
from phi3tune.ui import charts


def test_smoothing_is_the_adjusted_exponential_average_of_pandas() -> None:
    values = [5.0, 3.0, 4.0, 1.0, 1.5, 0.5]
    smoothed = charts.smooth(list(enumerate(values)), 0.7)
    expected = pd.Series(values).ewm(alpha=0.3, adjust=True).mean()
    assert [value for _, value in smoothed] == pytest.approx(expected.tolist())


def test_no_smoothing_changes_nothing() -> None:
    series = [(1, 2.0), (2, 1.0)]
    assert charts.smooth(series, 0.0) == series


def test_thinning_keeps_the_ends_and_the_limit() -> None:
    series = [(step, float(step)) for step in range(10_000)]
    thinned = charts.thin(series, 300)
    assert len(thinned) == 300
    assert (thinned[0], thinned[-1]) == (series[0], series[-1])
    assert charts.thin(series[:300], 300) == series[:300]


def test_frame_has_a_series_for_training_and_one_for_validation() -> None:
    metrics = [
        Metrics(step=1, values={"loss": 2.0, "grad_norm": 1.0}),
        Metrics(step=2, values={"loss": math.nan}),
        Metrics(step=2, values={"eval_loss": 1.5}),
        Metrics(step=3, values={"loss": 1.0}),
    ]
    frame = charts.frame(metrics, "loss", 0.5)
    assert list(frame.columns) == ["step", "value", "series"]
    assert frame[frame.series == "validation"][["step", "value"]].to_numpy().tolist() == [[2, 1.5]]
    training = frame[frame.series == "training"]
    assert training.step.tolist() == [1, 3]
    assert training.value.tolist() == pytest.approx([2.0, (0.5 * 0.5 * 2.0 + 0.5 * 1.0) / 0.75])


def test_long_runs_stay_drawable() -> None:
    metrics = [Metrics(step=step, values={"loss": 1.0, "eval_loss": 1.0}) for step in range(5000)]
    counts = charts.frame(metrics, "loss", 0.9).series.value_counts()
    assert counts.max() == charts.MAX_POINTS


def test_nothing_measured_is_an_empty_frame_with_columns() -> None:
    assert list(charts.frame([], "grad_norm", 0.0).columns) == ["step", "value", "series"]


def test_another_set_of_series_has_another_legend() -> None:
    one, other, again = (charts.legend(names) for names in (["a", "a"], ["a", "b"], ["a"]))
    assert one != other and one == again
    assert not (one + other).strip("\u200b")
