"""An endpoint as HTML: whether it runs, its keys, the conformance test."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from phi3tune.conformance import NAMES, Check
from phi3tune.keys import Key
from phi3tune.ui.render import Column, bar, counted, duration, empty, esc, latency, notice, table
from phi3tune.ui.words import N, t, told

if TYPE_CHECKING:
    from phi3tune.ui.endpoint_card import State


CHECKS = {
    "health": N("health"),
    "plain": N("plain answer"),
    "stream": N("streamed answer"),
    "stop": N("stop text"),
    "usage": N("token counts"),
    "system role": N("system prompt"),
    "long prompt": N("long prompt"),
    "error shape": N("errors"),
}


def about_test() -> str:
    """What the conformance test is for."""
    text = t(
        "The conformance test asks eight times, to see whether programs made for OpenAI's interface will work here."
    )
    return f'<p class="pt-sub">{esc(text)}</p>'


def status(state: State) -> str:
    """One line: off, loading, or where it answers."""
    problem = notice("bad", told(state.error)) if state.error else ""
    if state.url is None:
        return problem or empty(t("The endpoint is off. Choose what to serve, then press Start the endpoint."))
    named = {"models": ", ".join(state.models), "url": state.url}
    if problem:
        return notice("info", t("The endpoint cannot serve {models} at {url}.", **named)) + problem
    if not state.ready:
        text = t("Loading {models} at {url}.", **named)
        return notice("info", text, t("It answers as soon as the models are in memory."))
    facts = [t("for {time}", time=duration(time.time() - state.since))] if state.since else []
    facts.append(counted(state.requests, "request"))
    facts.append(t("a key is needed") if state.keyed else t("no key is needed on this machine"))
    return notice("good", t("Serving {models} at {url}", **named), " · ".join(facts))


def keys(found: Sequence[Key]) -> str:
    """Keys that are good, each with a button that revokes it."""
    good = [key for key in found if key.revoked is None]
    if not good:
        return empty(t("No keys yet. As soon as there is one, endpoints of this workspace ask for a key."))
    rows = [
        [
            key.name,
            time.strftime(t("%d %b %Y %H:%M"), time.localtime(key.created)),
            f'<button type="button" class="pt-open" data-key="{esc(key.name)}" '
            f'aria-label="{esc(t("Revoke {name}", name=key.name))}">{esc(t("Revoke"))}</button>',
        ]
        for key in good
    ]
    return table([Column(t("Key")), Column(t("Made")), Column(t("Action"), html=True)], rows)


def checks(done: Sequence[Check]) -> str:
    """The test as it goes, and its outcome in the first line."""
    passed = sum(check.passed for check in done)
    total, over = len(NAMES), len(done) == len(NAMES)
    level = "info" if not over else "good" if passed == total else "bad"
    line = (
        t("{n} of {total} checks passed", n=passed, total=total)
        if over
        else t("{n} of {total} checks done", n=len(done), total=total)
    )
    rows = [
        [
            f'<b class="pt-{"right" if check.passed else "wrong"}">{esc(_outcome(check))}</b>',
            t(CHECKS.get(check.name, check.name)),
            told(check.detail),
            latency(check.seconds),
        ]
        for check in done
    ]
    columns = [Column(t("Outcome"), html=True), Column(t("Check")), Column(t("What was seen"), wide=True)]
    columns.append(Column(t("Time"), numeric=True))
    shown = bar(len(done) / total, t("progress of the test")) if not over else ""
    return shown + notice(level, line) + table(columns, rows)


def _outcome(check: Check) -> str:
    return t("passed") if check.passed else t("FAILED")
