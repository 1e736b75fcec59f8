"""An endpoint as HTML: whether it runs, its keys, the conformance test."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from phi3tune.conformance import NAMES, Check
from phi3tune.keys import Key
from phi3tune.ui.render import Column, counted, duration, empty, esc, latency, notice, table

if TYPE_CHECKING:
    from phi3tune.ui.endpoint_card import State


def status(state: State) -> str:
    """One line: off, loading, or where it answers."""
    problem = notice("bad", state.error) if state.error else ""
    if state.url is None:
        return problem or empty("The endpoint is off. Choose what to serve and start it.")
    what = f"{', '.join(state.models)} at {state.url}"
    if problem:
        return notice("info", f"The endpoint cannot serve {what}.") + problem
    if not state.ready:
        return notice("info", f"Loading {what}.", "It answers as soon as the models are in memory.")
    age = f"for {duration(time.time() - state.since)}" if state.since else ""
    key = "a key is needed" if state.keyed else "no key is needed on this machine"
    return notice("good", f"Serving {what}", f"{age}, {counted(state.requests, 'request')}; {key}.")


def keys(found: Sequence[Key]) -> str:
    """Keys that are good, each with a button that revokes it."""
    good = [key for key in found if key.revoked is None]
    if not good:
        return empty("No keys yet. As soon as there is one, endpoints of this workspace ask for a key.")
    rows = [
        [
            key.name,
            time.strftime("%d %b %Y %H:%M", time.localtime(key.created)),
            f'<button type="button" class="pt-open" data-key="{esc(key.name)}">Revoke</button>',
        ]
        for key in good
    ]
    return table([Column("Key"), Column("Made"), Column("", html=True)], rows)


def checks(done: Sequence[Check]) -> str:
    """The test as it goes, and its outcome in the first line."""
    passed = sum(check.passed for check in done)
    total, over = len(NAMES), len(done) == len(NAMES)
    level = "info" if not over else "good" if passed == total else "bad"
    line = f"{passed} of {total} checks passed" if over else f"{len(done)} of {total} checks done"
    rows = [
        [
            f'<b class="pt-{"right" if check.passed else "wrong"}">{"passed" if check.passed else "FAILED"}</b>',
            check.name,
            check.detail,
            latency(check.seconds),
        ]
        for check in done
    ]
    columns = [Column("", html=True), Column("Check"), Column("What was seen", wide=True), Column("Time", numeric=True)]
    return notice(level, line) + table(columns, rows)
