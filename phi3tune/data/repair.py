"""Repairs inside one row: what its author most likely meant, every one of them told."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from phi3tune.chat import Message


def order(turns: list[Message], mend: Callable[[str, str], None]) -> list[Message]:
    """The turns as an optional system turn and then user and assistant turns by turns, ending on the assistant.

    Turns that are blank stay where they are: a row with one of them has lost something.
    """
    system = [turn for turn in turns if turn["role"] == "system"]
    talk = [turn for turn in turns if turn["role"] != "system"]
    if system and (len(system) > 1 or turns[0]["role"] != "system"):
        mend("role_order", "system turns put together as the first turn")
        system = [{"role": "system", "content": "\n".join(turn["content"] for turn in system)}]
    while talk and talk[0]["role"] == "assistant":
        mend("role_order", "assistant turn before the first user turn removed")
        talk = talk[1:]
    joined: list[Message] = []
    for turn in talk:
        last = joined[-1] if joined else None
        if last is not None and last["role"] == turn["role"] and last["content"] and turn["content"]:
            mend("role_order", f"two {turn['role']} turns running joined")
            joined[-1] = {"role": turn["role"], "content": f"{last['content']}\n{turn['content']}"}
        else:
            joined.append(turn)
    if len(joined) > 1 and joined[-1]["role"] == "user":
        mend("no_target", "user turn at the end removed")
        joined.pop()
    return system + joined


def parsed(text: str, mend: Callable[[str, str], None]) -> Any:
    """The list of turns that a cell of a table holds as JSON; the text itself where it holds none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if not isinstance(value, list):
        return text
    mend("bad_messages", "turns read from JSON text")
    return value


def mojibake(text: str, mend: Callable[[str, str], None]) -> str:
    """Text that was decoded with the wrong encoding, decoded again with the right one (ftfy's heuristic)."""
    import ftfy
    from ftfy.badness import is_bad

    if not is_bad(text):
        return text
    fixed: str = ftfy.fix_encoding(text)
    if fixed != text:
        mend("mojibake", f"{_differing(text, fixed)} mended")
    return fixed


def _differing(old: str, new: str) -> str:
    """The place where the texts begin to differ, in a few characters."""
    start = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), 0)
    return repr(old[max(0, start - 10) : start + 20])
