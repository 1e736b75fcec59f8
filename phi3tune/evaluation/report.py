"""What a report says of a model and of a row."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from phi3tune.data import Conversation
from phi3tune.engines.models import ModelRef
from phi3tune.evaluation.labels import is_text
from phi3tune.evaluation.measures import Measures
from phi3tune.evaluation.metrics import METRICS, Metric, Plan
from phi3tune.evaluation.progress import Answer


@dataclass(frozen=True)
class Entry:
    """One model of a report. `engine` holds facts about the engine that ran it."""

    ref: ModelRef
    engine: dict[str, Any]
    answers: dict[int, Answer]
    measures: Measures


def model(entry: Entry, plan: Plan, intervals: dict[str, list[float]]) -> dict[str, Any]:
    """The model's part of the report. A metric that could not be had is None, with the reason in `reasons`."""
    answers = entry.answers.values()
    likelihoods = [answer.likelihood for answer in answers if answer.likelihood is not None]
    metrics = {metric.name: entry.measures.value(metric) for metric in plan.metrics}
    answered = [answer for answer in answers if answer.text is not None]
    return {
        "model": entry.ref.ref,
        "label": entry.ref.label,
        "metrics": metrics,
        "reasons": {
            name: entry.measures.why_missing(METRICS[name], entry.engine)
            for name, value in metrics.items()
            if value is None
        },
        "intervals": intervals,
        "counts": {
            **{metric.name: entry.measures.weight(metric) for metric in plan.metrics if metric.name != "answer_tokens"},
            "answered": len(answered),
            "unanswered": entry.measures.rows(METRICS["exact_match"]) - len(answered),
            "cut_answers": sum(answer.finish_reason == "length" for answer in answered),
            "answer_tokens": sum(answer.answer_tokens or 0 for answer in answered),
            "truncated_rows": sum(each.truncated for each in likelihoods),
        },
        "seconds": {
            "answering": round(sum(answer.answering_seconds for answer in answers), 3),
            "scoring": round(sum(answer.scoring_seconds for answer in answers), 3),
        },
        "engine": entry.engine,
        "labels": entry.measures.labels,
    }


def without_rows(ref: ModelRef) -> dict[str, Any]:
    """The part of a model that answered no rows, because only prompts of safety or benchmarks were asked for."""
    empty: dict[str, dict[str, Any]] = {
        name: {} for name in ("metrics", "reasons", "intervals", "counts", "seconds", "engine")
    }
    return {"model": ref.ref, "label": ref.label, **empty, "labels": None}


def row_lines(rows: Sequence[Conversation], entries: Sequence[Entry], plan: Plan) -> Iterator[dict[str, Any]]:
    """The lines of rows.jsonl: each chat up to its last turn, the reference, and what each model said."""
    values = [{metric: entry.measures.row_values(metric) for metric in plan.metrics} for entry in entries]
    for place, row in enumerate(rows):
        yield {
            "file": row.file,
            "row": row.row,
            "prompt": list(row.prompt_messages),
            "reference": row.reference,
            "answers": [
                _answer(entry, place, {metric: float(found[place]) for metric, found in of_model.items()}, is_text(row))
                for entry, of_model in zip(entries, values, strict=True)
            ],
        }


def _answer(entry: Entry, place: int, values: dict[Metric, float], plain: bool) -> dict[str, Any]:
    answer = entry.answers[place]
    known = {metric.name: value for metric, value in values.items() if math.isfinite(value)}
    found, labels = answer.likelihood, entry.measures.given
    return {
        "model": entry.ref.ref,
        "answer": answer.text,
        "finish_reason": answer.finish_reason,
        "reason": answer.reason,
        "exact_match": None if plain else known["exact_match"] == 1.0,
        "token_f1": None if plain else known["token_f1"],
        "metrics": known,
        **({"label": labels[place]} if labels is not None else {}),
        "nll": found.nll if found is not None and math.isfinite(found.nll) else None,
        "tokens": found.tokens if found is not None else 0,
        "answer_tokens": answer.answer_tokens,
        "seconds": answer.seconds,
    }
