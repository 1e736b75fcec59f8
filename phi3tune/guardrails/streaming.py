"""Output checks while an answer is being written: text goes on as soon as nothing that follows can change it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from phi3tune.guardrails.check import CheckError, Rule, Span, SpanCheck, TextCheck
from phi3tune.guardrails.masking import placeholder, replaced, unchecked
from phi3tune.guardrails.verdict import Hit

if TYPE_CHECKING:
    from phi3tune.guardrails.guards import Guards

_BEHIND = 2  # characters behind a match that decide whether it is one: patterns of numbers look so far


class Piece(NamedTuple):
    """Text that may be shown now, and the hits that are new. After a piece that blocks, nothing more is shown."""

    text: str
    hits: tuple[Hit, ...] = ()

    @property
    def blocked(self) -> bool:
        return any(hit.action == "block" for hit in self.hits)


class OutputFilter:
    """The output guards on one answer, fed piece by piece. For one answer and one thread only.

    Checks that find places hold back only text that may yet become a hit. A check that judges the whole answer holds
    it all back until the end where it masks or may block; where it only flags, nothing.
    """

    def __init__(self, guards: Guards) -> None:
        self._guards = guards
        found = guards.of("output")
        self._span_checks: list[tuple[Rule, SpanCheck]] = [(r, c) for r, c in found if isinstance(c, SpanCheck)]
        self._text_checks: list[tuple[Rule, TextCheck]] = [(r, c) for r, c in found if isinstance(c, TextCheck)]
        self._whole = any(rule.action != "flag" or rule.on_error == "block" for rule, _ in self._text_checks)
        self._text = ""
        self._shown = 0  # characters of `_text` that were given out
        self._told: dict[Hit, None] = {}

    def feed(self, text: str) -> Piece:
        """The next piece of the answer."""
        self._text += text
        return Piece("") if self._whole else self._advance(final=False)

    def finish(self) -> Piece:
        """The end of the answer: what was held back."""
        hits: list[Hit] = []
        whole: str | None = None
        for rule, check in self._text_checks:
            try:
                if (what := check.judge(self._text)) is not None:
                    hits.append(Hit(rule.name, rule.action, what))
                    whole = rule.name if rule.action == "mask" else whole
            except CheckError as error:
                hits.append(unchecked(rule, error))
        piece = self._advance(final=True)
        new = self._new(hits)
        if any(hit.action == "block" for hit in new) or piece.blocked:
            return Piece("", (*piece.hits, *new))
        return Piece(piece.text if whole is None else placeholder(whole), (*piece.hits, *new))

    @property
    def reason(self) -> str:
        """What to tell the person when the answer was blocked; empty when it was not."""
        return self._guards.reason(self._told)

    def _advance(self, *, final: bool) -> Piece:
        text, start = self._text, self._shown
        end = len(text)
        spans: list[tuple[Rule, Span]] = []
        hits: list[Hit] = []
        for rule, check in tuple(self._span_checks):
            try:
                spans += [(rule, span) for span in check.spans(text, start)]
                end = end if final else min(end, check.settled(text, start))
            except CheckError as error:
                hits.append(unchecked(rule, error))
                self._span_checks.remove((rule, check))  # once is enough: every further try would take as long
        # A span that reaches over the end moves it back, over which an earlier one may then reach.
        for _, span in sorted(spans, key=lambda item: item[1].since, reverse=True):
            if span.end > (end if final else min(end, len(text) - _BEHIND)):
                end = min(end, span.since)
        spans = [(rule, span) for rule, span in spans if span.end <= end]
        hits += [Hit(rule.name, rule.action, span.what) for rule, span in spans]
        new = self._new(hits)
        if any(hit.action == "block" for hit in new):
            return Piece("", new)
        self._shown = end
        masked = [
            (span._replace(start=span.start - start, end=span.end - start), rule.name)
            for rule, span in spans
            if rule.action == "mask"
        ]
        return Piece(replaced(text[start:end], masked), new)

    def _new(self, hits: list[Hit]) -> tuple[Hit, ...]:
        new = tuple(dict.fromkeys(hit for hit in hits if hit not in self._told))
        self._told.update(dict.fromkeys(new))
        return new
