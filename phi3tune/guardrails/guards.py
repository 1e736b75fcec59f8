"""All guards of an endpoint or a playground, asked together."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence

from phi3tune.chat import Message
from phi3tune.guardrails.check import Check, CheckError, Rule, Side, Span, SpanCheck
from phi3tune.guardrails.masking import placeholder, replaced, unchecked
from phi3tune.guardrails.streaming import OutputFilter
from phi3tune.guardrails.verdict import Hit, Verdict, strictest

Guard = tuple[Rule, Check]
_CHAT_SECONDS = 20.0  # of one guard on one chat, however many messages it has


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
        texts, hits = self._masked([message["content"] for message in messages], "input")
        masked = tuple(
            Message(role=message["role"], content=text) for message, text in zip(messages, texts, strict=True)
        )
        return Verdict(strictest(hits), hits, messages=masked, reason=self.reason(hits))

    def check_output(self, text: str) -> Verdict:
        """What is said of a whole answer; `text` of it is what may be shown."""
        [masked], hits = self._masked([text], "output")
        return Verdict(strictest(hits), hits, text=masked, reason=self.reason(hits))

    def stream(self, texts: Iterable[str]) -> Iterator[tuple[str, tuple[Hit, ...]]]:
        """The pieces of an answer as they may be shown, each with the hits that it brought.

        Nothing follows a hit that blocks; the caller then ends the answer. See `OutputFilter`.
        """
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

    def _masked(self, texts: Sequence[str], side: Side) -> tuple[list[str], tuple[Hit, ...]]:
        """The texts as they may be used, and each hit once, by guard."""
        hits: dict[Hit, None] = {}
        spans: list[list[tuple[Span, str]]] = [[] for _ in texts]
        whole: dict[int, str] = {}
        for rule, check in self.of(side):
            until = time.monotonic() + _CHAT_SECONDS
            try:
                for place, text in enumerate(texts):
                    if isinstance(check, SpanCheck):
                        found = list(check.spans(text))
                        spans[place] += [(span, rule.name) for span in found if rule.action == "mask"]
                        kinds = [span.what for span in found]
                    else:
                        what = check.judge(text)
                        kinds = [what] if what is not None else []
                        if kinds and rule.action == "mask":
                            whole[place] = rule.name
                    hits.update((Hit(rule.name, rule.action, kind), None) for kind in kinds)
                    if time.monotonic() > until:
                        raise CheckError(f"all messages together took longer than {_CHAT_SECONDS:g} seconds")
            except CheckError as error:
                hits[unchecked(rule, error)] = None
        masked = [
            placeholder(whole[place]) if place in whole else replaced(text, spans[place])
            for place, text in enumerate(texts)
        ]
        return masked, tuple(hits)
