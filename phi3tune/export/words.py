"""A parity report in words and tables, for the model card, the page and the terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

NONE = "not a number"
_CHAT = (
    ("kl_mean", "Mean KL divergence, nats", "at most", ".2e"),
    ("kl_p99", "99th percentile of it", "", ".2e"),
    ("top1_agreement", "Same first choice", "at least", ".2%"),
    ("perplexity_merged", "Perplexity of the model", "", ".4g"),
    ("perplexity_build", "Perplexity of the build", "", ".4g"),
    ("perplexity_ratio", "Their ratio", "at most", ".4f"),
    ("greedy_match", "Same greedy answer", "at least", ".1%"),
)
_LABELS = (
    ("same_label", "Same label", "at least", ".2%"),
    ("max_difference", "Largest change of a probability", "at most", ".2e"),
    ("mean_difference", "Mean change of a probability", "", ".2e"),
)
_MEASURED: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("size_bytes", "Size of the weights", lambda value: f"{value / 1e6:,.1f} MB"),
    ("load_seconds", "Time to load", lambda value: f"{value:,.2f} s"),
    ("prefill_tokens_per_second", "Prefill", lambda value: f"{value:,.0f} tokens/s"),
    ("decode_tokens_per_second", "Decode", lambda value: f"{value:,.1f} tokens/s"),
    ("peak_memory_bytes", "Peak memory of the process", lambda value: f"{value / 1e6:,.0f} MB"),
)


def verdict(parity: Mapping[str, Any]) -> str:
    """One sentence: whether the build answers like its model, and where it does not."""
    if parity.get("passed"):
        return "This build answers like the model that it was made from, within the stated limits."
    missed = parity.get("missed") or ["a limit is missed"]
    more = f", and {len(missed) - 3} more" if len(missed) > 3 else ""
    return f"This build FAILS parity, it does not answer like its model: {'; '.join(missed[:3])}{more}."


def figures(parity: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: each measure with its limit, at short prompts and at each length of the context."""
    contexts = parity.get("contexts") or []
    measures = _LABELS if parity.get("task") == "classification" else _CHAT
    header = ["Measure", "Limit", "Short prompts" if contexts else "Held-out rows"]
    header += [f"{each['length']:,} tokens ({each['share']:.0%})" for each in contexts]
    rows = []
    for key, title, bound, form in measures:
        limit = parity["limits"].get(key)
        limited = f"{bound} {format(limit, '.1%' if '%' in form else 'g')}" if bound and limit is not None else ""
        rows.append([title, limited, *(number(each.get(key), form) for each in (parity, *contexts))])
    widened = [each.get("widened", 1.0) for each in contexts]
    if any(factor > 1 for factor in widened):
        rows.append(["Limits widened, see below", "", "", *(f"{factor:.3g} times" for factor in widened)])
    tokens = [f"{each['tokens']:,}" if "tokens" in each else "" for each in (parity, *contexts)]
    if any(tokens):
        rows.append(["Tokens compared", "", *tokens])
    return header, rows


def remark(parity: Mapping[str, Any]) -> str:
    """Why limits are wider at some lengths; empty where they are not."""
    if not any(each.get("widened", 1.0) > 1 for each in parity.get("contexts") or ()):
        return ""
    return (
        "At long prompts the model itself is less sure of its next token than at short ones, and rounding moves it "
        "further; there the limits are wider by the ratio of the negative log-likelihoods, 25 times at most."
    )


def measured(found: Mapping[str, Any] | None) -> list[list[str]]:
    """Rows of what was measured; [] where nothing was."""
    return [[title, show(found[key])] for key, title, show in _MEASURED if found and found.get(key) is not None]


def number(value: float | None, form: str) -> str:
    """A build that computes no numbers has no figures."""
    return NONE if value is None else format(value, form)
