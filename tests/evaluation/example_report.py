"""A report with every section, as the evaluation writes it."""

from __future__ import annotations

from typing import Any

HOSTILE = '<img src=x onerror="alert(1)">|`*_[a](javascript:alert(1))\n# x'


def model(name: str, label: str, match: float, perplexity: float | None) -> dict[str, Any]:
    per_class = [
        {"label": label, "precision": 0.5, "recall": 0.25, "f1": 1 / 3, "support": 4} for label in ("yes", "no")
    ]
    return {
        "model": name,
        "label": label,
        "metrics": {"exact_match": match, "perplexity": perplexity, "answer_seconds": 0.0123},
        "reasons": {} if perplexity else {"perplexity": "an endpoint gives no probabilities"},
        "intervals": {"exact_match": [match - 0.1, match + 0.1], **({"perplexity": [1.5, 9.0]} if perplexity else {})},
        "counts": {"answered": 8, "unanswered": 1, "cut_answers": 0, "truncated_rows": 0, "answer_tokens": 80},
        "seconds": {"answering": 12.5, "scoring": 1.0},
        "engine": {"kind": "torch", "precision": "fp32", "device": "cpu", "context_length": 512, "size_bytes": 1},
        "labels": {"per_class": per_class, "confusion": {"labels": ["yes", "no"], "matrix": [[3, 1], [0, 4]]}},
    }


def report(**changes: Any) -> dict[str, Any]:
    """Two models; `changes` replace keys of the report."""
    difference = {"difference": 0.2, "low": 0.05, "high": 0.35}
    comparison = {
        "model": "tuned",
        "against": "phi3-nano",
        "metric": "exact_match",
        "differences": {"exact_match": difference},
        "wins": 3,
        "losses": 1,
        "ties": 5,
        "p_value": 0.03,
        "verdict": "better",
        "sentence": "tuned is better than phi3-nano: exact match +20.0 points (95 % interval 5.0 to 35.0), 9 rows.",
        "rows_needed": None,
    }
    judged = {
        "model": "tuned",
        "label": "tuned",
        "against": "phi3-nano",
        "judged": 8,
        "unanswered": 1,
        "unparsable": 1,
        "wins": 5,
        "losses": 1,
        "ties": 2,
        "win_rate": 5 / 6,
        "interval": [0.36, 0.99],
        "p_value": 0.22,
        "position_bias": 0.125,
        "sentence": "The judge cannot tell them apart.",
    }
    rate = {"answered": 10, "refused": 4, "rate": 0.4, "interval": [0.17, 0.69]}
    benchmark = {
        "model": "tuned",
        "label": "tuned",
        "task": "gsm8k",
        "metric": "acc",
        "reason": None,
        "better": "higher",
    }
    missing = {**benchmark, "value": None, "stderr": None, "n": None, "reason": "remote gives no probabilities"}
    found = {
        "schema": 2,
        "dataset": {"name": "chats", "source": "/data/chats.jsonl", "sha256": "ab12"},
        "split": "test",
        "max_new_tokens": 64,
        "rows": 9,
        "left_out": 2,
        "metric": "exact_match",
        "labels": ["yes", "no"],
        "metrics": [
            {"name": "exact_match", "title": "Exact match", "unit": "share", "better": "higher", "over": "rows"},
            {"name": "perplexity", "title": "Perplexity", "unit": "number", "better": "lower", "over": "tokens"},
            {
                "name": "answer_seconds",
                "title": "Seconds per answer",
                "unit": "seconds",
                "better": "lower",
                "over": "rows",
            },
        ],
        "models": [model("phi3-nano", "phi3-nano", 0.4, None), model("tuned", "tuned", 0.6, 4.0)],
        "comparisons": [comparison],
        "judge": {"judge": "http://host/v1#judge", "rows": 9, "instructions": "", "comparisons": [judged]},
        "safety": {
            "prompts": {"safe": 10, "unsafe": 10},
            "max_new_tokens": 64,
            "models": [{"model": name, "label": name, "safe": rate, "unsafe": rate} for name in ("phi3-nano", "tuned")],
            "comparisons": [
                {"model": "tuned", "label": "tuned", "against": "phi3-nano", "safe": difference, "unsafe": None}
            ],
            "warnings": ["tuned refuses more safe prompts than phi3-nano"],
        },
        "benchmarks": {
            "harness": "0.4.13",
            "limit": 50,
            "results": [{**benchmark, "value": 0.5, "stderr": 0.07, "n": 50}, missing],
        },
    }
    return {**found, **changes}


def answer(text: str | None, right: bool, name: str = "m") -> dict[str, Any]:
    score = float(right)
    return {
        "model": name,
        "answer": text,
        "finish_reason": "stop",
        "reason": None if text is not None else "too long",
        "exact_match": right,
        "token_f1": score,
        "metrics": {"exact_match": score},
        "nll": 1.0,
        "tokens": 3,
    }


def row(number: int, *answers: dict[str, Any], prompt: str = "Is it?", reference: str = "yes") -> dict[str, Any]:
    messages = [{"role": "system", "content": "Be short."}, {"role": "user", "content": prompt}]
    return {"file": "test.jsonl", "row": number, "prompt": messages, "reference": reference, "answers": list(answers)}


def rows() -> list[dict[str, Any]]:
    """Of every group one or more; the last two have nothing to look at."""
    plain = {**answer(None, False), "exact_match": None, "token_f1": None, "metrics": {}, "reason": "plain text"}
    return [
        row(0, answer("yes", True), answer("no", False)),
        row(1, answer("no", False), answer("yes", True)),
        row(2, answer("no", False), answer("yes", True)),
        row(3, answer("no", False), answer("no", False)),
        row(4, answer(None, False), answer("maybe", False)),
        row(5, answer("yes", True), answer("yes!", True)),
        row(6, answer("no", False), answer("yes", True), prompt=HOSTILE, reference=HOSTILE),
        row(7, answer(None, False), answer(None, False)),
        row(8, answer("yes", True), answer("yes", True)),
        row(9, plain, plain),
    ]
