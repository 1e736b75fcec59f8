"""All guards of an endpoint or a playground, asked together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from phi3tune.chat import Message
from phi3tune.guardrails.check import Check, CheckError, Rule, Side, Span, SpanCheck
from phi3tune.guardrails.verdict import Hit, Verdict, strictest

Guard = tuple[Rule, Check]


class Guards:
    """Guards in the order of their file. `Guards(())` passes everything. Safe to use from several threads.

    A check may take up to its time limit, and a classifier or a moderation endpoint seconds: never ask from an event
    loop's own thread.
    """

    def __init__(self, guards: Sequence[Guard]) -> None:
        self._guards = tuple(guards)

    def __len__(self) -> int:
        return len(self._guards)

    @property
    def names(self) -> list[str]:
        return [rule.name for rule, _ in self._guards]

    def of(self, side: Side) -> tuple[Guard, ...]:
        """The guards of one side."""
        return tuple((rule, check) for rule, check in self._guards if side in rule.sides)

    def check_input(self, messages: Sequence[Message]) -> Verdict:
        """What is said of a chat before it is answered; `messages` of it are what the model is to be asked.

        Every message is looked at, whatever its role says: the one who asks writes the roles, too.
        """
        found = [self._masked(message["content"], "input") for message in messages]
        hits = _once(hit for _, hits in found for hit in hits)
        masked = tuple(
            Message(role=message["role"], content=text) for message, (text, _) in zip(messages, found, strict=True)
        )
        return Verdict(strictest(hits), hits, messages=masked, reason=self.reason(hits))

    def check_output(self, text: str) -> Verdict:
        """What is said of a whole answer; `text` of it is what may be shown."""
        masked, hits = self._masked(text, "output")
        hits = _once(hits)
        return Verdict(strictest(hits), hits, text=masked, reason=self.reason(hits))

    def stream(self, texts: Iterable[str]) -> Iterator[tuple[str, tuple[Hit, ...]]]:
        """The pieces of an answer as they may be shown, each with the hits that it brought.

        Nothing follows a hit that blocks; the caller then ends the answer. See `OutputFilter`.
        """
        from phi3tune.guardrails.streaming import OutputFilter

        output = OutputFilter(self)
        for text in texts:
            piece = output.feed(text)
            if piece.text or piece.hits:
                yield piece.text, piece.hits
            if piece.blocked:
                return
        piece = output.finish()
        if piece.text or piece.hits:
            yield piece.text, piece.hits

    def reason(self, hits: Iterable[Hit]) -> str:
        """What to tell the person whose question or answer was blocked; empty when it was not."""
        blocking = {hit.guard for hit in hits if hit.action == "block"}
        return next((rule.reply for rule, _ in self._guards if rule.name in blocking), "")

    def _masked(self, text: str, side: Side) -> tuple[str, tuple[Hit, ...]]:
        hits: list[Hit] = []
        spans: list[tuple[Span, str]] = []
        whole: str | None = None
        for rule, check in self.of(side):
            try:
                if isinstance(check, SpanCheck):
                    found = list(check.spans(text))
                    hits += [Hit(rule.name, rule.action, span.what) for span in found]
                    spans += [(span, rule.name) for span in found if rule.action == "mask"]
                elif (what := check.judge(text)) is not None:
                    hits.append(Hit(rule.name, rule.action, what))
                    whole = rule.name if rule.action == "mask" else whole
            except CheckError as error:
                hits.append(unchecked(rule, error))
        return (placeholder(whole) if whole is not None else replaced(text, spans)), tuple(hits)


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


def _once(hits: Iterable[Hit]) -> tuple[Hit, ...]:
    """Each hit once, in order: a chat sends its history along with every question."""
    return tuple(dict.fromkeys(hits))
