"""From what a model did with each row to its metrics: one array of counts for every metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from phi3tune.data import Conversation
from phi3tune.evaluation import labels, text
from phi3tune.evaluation.labels import is_text
from phi3tune.evaluation.metrics import LIKELIHOOD, Metric, Plan
from phi3tune.evaluation.progress import Answer


class Measures:
    """The metrics of one model over all rows.

    total    number of rows
    counts   by metric, float64 [rows, k]: what `Metric.statistic` takes sums of, 0 where a row has no part in it
    given    by row, the label that the answer is; None where the answers are no labels
    labels   scores of every label and the confusion matrix; None likewise
    """

    def __init__(self, plan: Plan, rows: Sequence[Conversation], answers: Mapping[int, Answer]) -> None:
        self.total = len(rows)
        found = [_counts(plan, row, answers[place]) for place, row in enumerate(rows)]
        self.counts: dict[str, np.ndarray] = {}
        for metric in plan.metrics:
            width = max((len(each[metric.name]) for each in found if metric.name in each), default=0)
            if width:
                self.counts[metric.name] = np.array([each.get(metric.name, [0.0] * width) for each in found], float)
        self.given: list[str] | None = None
        self.labels: dict[str, Any] | None = None
        if plan.labels is not None:
            wanted = [row.reference.strip() for row in rows]
            self.given = [labels.label_of(answers[place].text or "", plan.labels) for place in range(len(rows))]
            self.labels = labels.report(wanted, self.given)
            self.counts["macro_f1"] = labels.counts(wanted, self.given)

    def value(self, metric: Metric) -> float | None:
        """The model's value; None where it cannot be had."""
        if metric.name not in self.counts:
            return None
        value = float(metric.statistic(self.counts[metric.name].sum(axis=0)))
        return value if np.isfinite(value) else None

    def row_values(self, metric: Metric) -> np.ndarray:
        """The value of every row, float64 [rows]; NaN where a row has none."""
        if metric.name not in self.counts or not metric.rows:
            return np.full(self.total, np.nan)
        counts = self.counts[metric.name]
        return np.where(counts.any(axis=1), metric.statistic(counts), np.nan)

    def rows(self, metric: Metric) -> int:
        """Rows that the value is made of."""
        return int(self.counts[metric.name].any(axis=1).sum()) if metric.name in self.counts else 0

    def weight(self, metric: Metric) -> int:
        """The same in tokens where the metric is over tokens."""
        if metric.over == "tokens" and metric.name in self.counts:
            return int(self.counts[metric.name][:, 1].sum())
        return self.rows(metric)

    def why_missing(self, metric: Metric, engine: Mapping[str, Any]) -> str:
        """Why `value` is None, for an engine with these facts."""
        if metric.name in self.counts:
            return "the model's probabilities are not numbers"
        if "classify" in engine["can"]:
            return "a classifier gives probabilities of its labels, and no text of its own"
        if metric.name in LIKELIHOOD:
            if "score" not in engine["can"]:
                return "an endpoint gives no probabilities of given text"
            return "no loss-bearing token fits the model's context"
        if metric.name == "answer_tokens" and engine["kind"] == "remote":
            return "the endpoint does not count its tokens"
        return "the model answered no row"


def _counts(plan: Plan, row: Conversation, answer: Answer) -> dict[str, Sequence[float]]:
    """What one row adds to each metric. No answer counts as a wrong one: models are compared on the same rows."""
    found: dict[str, Sequence[float]] = {}
    if not is_text(row):
        said = answer.text or ""
        found = {name: (value, 1.0) for name, value in plan.values(said, row.reference).items()}
        found["chrf"] = text.chrf_counts(said, row.reference)
        found["bleu"] = text.bleu_counts(said, row.reference)
    if answer.text is not None:
        facts = {
            "answer_tokens": answer.answer_tokens,
            "answer_characters": len(answer.text),
            "cut_share": answer.finish_reason == "length",
            "answer_seconds": answer.seconds,
            "first_token_seconds": answer.first_token_seconds,
        }
        found |= {name: (float(value), 1.0) for name, value in facts.items() if value is not None}
    if answer.likelihood is not None and answer.likelihood.tokens:
        found["perplexity"] = (answer.likelihood.nll, answer.likelihood.tokens)
        found["token_accuracy"] = (answer.likelihood.hits, answer.likelihood.tokens)
    return found
