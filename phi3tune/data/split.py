"""Divides conversations into parts: seeded, the same on every system, identical ones always together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from phi3tune.chat import Message
from phi3tune.config import Part


def key(messages: Sequence[Message]) -> bytes:
    """Equal for conversations with equal text."""
    turns = [(message["role"], message["content"]) for message in messages]
    return hashlib.sha256(json.dumps(turns).encode()).digest()


def divide(keys: Sequence[bytes], seed: int, shares: Mapping[Part, float]) -> list[Part] | None:
    """The part of each conversation: `shares` of the rows to validation and test, the rest to train.

    Every part with a share gets at least one group of identical rows; None when there are too few groups.
    """
    groups: dict[bytes, int] = {}
    for each in keys:
        groups[each] = groups.get(each, 0) + 1
    wanted = {part: share for part, share in shares.items() if share > 0}
    if len(groups) < len(wanted) + 1:
        return None
    # The order comes from a hash and not from a generator, whose algorithm a version may change.
    order = sorted(groups, key=lambda each: hashlib.sha256(seed.to_bytes(8, "big") + each).digest())
    parts: dict[bytes, Part] = {}
    position = 0
    for index, (part, share) in enumerate(wanted.items()):
        rows, target = 0, max(1, round(len(keys) * share))
        # One group is left for each part that is still to come, and one for training.
        last = len(order) - (len(wanted) - index)
        while rows < target and position < last:
            parts[order[position]] = part
            rows += groups[order[position]]
            position += 1
    return [parts.get(each, "train") for each in keys]
