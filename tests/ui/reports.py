"""A small evaluation as its job leaves it, with text in it that must stay text."""

from __future__ import annotations

from typing import Any

from phi3tune.ui.render_report import Report

ATTACK = "<img src=x onerror=alert(1)>"
METRICS = [
    {"name": "exact_match", "title": "Exact match", "unit": "share", "better": "higher", "over": "rows"},
    {"name": "perplexity", "title": "Perplexity", "unit": "number", "better": "lower", "over": "tokens"},
    {"name": "token_accuracy", "title": "Token accuracy", "unit": "share", "better": "higher", "over": "tokens"},
    {"name": "latency", "title": "Seconds per answer", "unit": "seconds", "better": None, "over": "rows"},
]


def model(name: str, **metrics: float | None) -> dict[str, Any]:
    every = {"exact_match": 0.0, "perplexity": 900.0, "token_accuracy": 0.2, "latency": 0.034, **metrics}
    return {
        "model": name,
        "label": name,
        "metrics": every,
        "intervals": {"exact_match": [0.79, 0.90]} if every["exact_match"] else {},
        "counts": {"exact_match": 4, "perplexity": 1167, "token_accuracy": 1167, "latency": 4},
        "reasons": {key: f"cannot {ATTACK}" for key, value in every.items() if value is None},
        "labels": None,
    }


def row(number: int, *answers: tuple[str | None, bool]) -> dict[str, Any]:
    said = [
        {
            "model": "any",
            "answer": text,
            "exact_match": right,
            "token_f1": float(right),
            "metrics": {"exact_match": right},
            "reason": "too long",
            "nll": 2.0 + number,
            "tokens": 2,
        }
        for text, right in answers
    ]
    prompt = [{"role": "user", "content": f"{ATTACK} {number}"}]
    return {"file": "rows.jsonl", "row": number, "prompt": prompt, "reference": ATTACK, "answers": said}


def make() -> Report:
    rows = [
        row(0, ("no", False), ("yes", True)),
        row(1, ("yes", True), (ATTACK, False)),
        row(2, (None, False), ("", False)),
        row(3, ("yes", True), ("yes", True)),
    ]
    comparison = {
        "model": "lamp",
        "against": "phi3-nano",
        "metric": "exact_match",
        "differences": {"exact_match": {"difference": 0.86, "low": 0.79, "high": 0.90}},
        "wins": 138,
        "losses": 0,
        "ties": 22,
        "p_value": 1e-9,
        "verdict": "better",
        "sentence": f"lamp is better than phi3-nano: exact match +86.3 points {ATTACK}",
        "rows_needed": None,
    }
    found = {
        "schema": 2,
        "models": [model("phi3-nano"), model("lamp", exact_match=0.863, perplexity=1.2)],
        "metrics": METRICS,
        "metric": "exact_match",
        "comparisons": [comparison],
        "rows": 160,
        "split": "test",
        "dataset": {"name": "lantern-support"},
        "left_out": 2,
        "labels": None,
        "judge": None,
        "safety": None,
        "benchmarks": None,
    }
    return Report(found, rows)
