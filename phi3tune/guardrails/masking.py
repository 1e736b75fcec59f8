"""What becomes of a text in which something was found."""

from __future__ import annotations

from collections.abc import Iterable

from phi3tune.guardrails.check import CheckError, Rule, Span
from phi3tune.guardrails.verdict import Hit


def unchecked(rule: Rule, error: CheckError) -> Hit:
    """The hit for a text that a guard could not look at: it blocks, or is only told, as the guard's `on_error` says."""
    return Hit(rule.name, "block" if rule.on_error == "block" else "flag", f"not checked: {error}")


def placeholder(name: str) -> str:
    """What stands in the place of masked text."""
    return f"[{name}]"


def replaced(text: str, spans: Iterable[tuple[Span, str]]) -> str:
    """The text with a placeholder for each span; spans that overlap have one, by the name of the first."""
    parts, end = [], 0
    for span, name in sorted(spans):
        if span.start >= end:
            parts += [text[end : span.start], placeholder(name)]
        end = max(end, span.end)
    return "".join([*parts, text[end:]])
