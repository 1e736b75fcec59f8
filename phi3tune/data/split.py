"""Divides rows into parts: seeded, the same on every system, groups of rows always together, labels in balance."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

from phi3tune.chat import Message
from phi3tune.config import Part


def key(messages: Sequence[Message]) -> bytes:
    """Equal for conversations with equal text."""
    turns = [(message["role"], message["content"]) for message in messages]
    return hashlib.sha256(json.dumps(turns).encode()).digest()


@dataclass(slots=True)
class _Group:
    key: bytes
    label: str
    members: list[int] = field(default_factory=list)


def divide(
    keys: Sequence[bytes],
    seed: int,
    sizes: Mapping[Part, int],
    groups: Sequence[Hashable] | None = None,
    labels: Sequence[str] | None = None,
) -> list[Part] | None:
    """The part of each row: `sizes` rows to validation and test, the rest to train.

    Rows of equal `groups` (without: of equal keys) stay together, so that a part may get somewhat more than its size.
    With `labels` each label gives its share to each part. Every part with a size gets at least one group, and train
    keeps one; None when there are too few groups.
    """
    wanted = {part: size for part, size in sizes.items() if size > 0}
    together = _groups(keys, keys if groups is None else groups, labels)
    if len(together) < len(wanted) + 1:
        return None
    # The order comes from a hash and not from a generator, whose algorithm a version may change.
    left = sorted(together, key=lambda group: hashlib.sha256(seed.to_bytes(8, "big") + group.key).digest())
    parts: list[Part] = ["train"] * len(keys)
    for index, (part, size) in enumerate(wanted.items()):
        # One group is left for each part that is still to come, and one for training.
        taken = _take(left, size, len(left) - (len(wanted) - index))
        for group in taken:
            for position in group.members:
                parts[position] = part
        chosen = {id(group) for group in taken}
        left = [group for group in left if id(group) not in chosen]
    return parts


def _groups(keys: Sequence[bytes], groups: Sequence[Hashable], labels: Sequence[str] | None) -> list[_Group]:
    """A group goes by its lowest key, which does not depend on the order of the rows, and by its first row's label."""
    found: dict[Hashable, _Group] = {}
    for position, (each, own) in enumerate(zip(groups, keys, strict=True)):
        group = found.get(each)
        if group is None:
            group = found[each] = _Group(own, labels[position] if labels else "")
        group.key = min(group.key, own)
        group.members.append(position)
    return list(found.values())


def _take(groups: Sequence[_Group], size: int, at_most: int) -> list[_Group]:
    """The first groups of each label, up to the label's share of `size` rows; at least one group."""
    rows: dict[str, int] = {}
    for group in groups:
        rows[group.label] = rows.get(group.label, 0) + len(group.members)
    quota = _quotas(rows, size)
    taken: list[_Group] = []
    for group in groups:
        if len(taken) < at_most and quota[group.label] > 0:
            taken.append(group)
            quota[group.label] -= len(group.members)
    return taken


def _quotas(rows: Mapping[str, int], size: int) -> dict[str, int]:
    """`size` rows over the labels in proportion (largest remainder, ties by name)."""
    total = sum(rows.values())
    exact = {label: min(size, total) * count / total for label, count in rows.items()}
    quota = {label: int(share) for label, share in exact.items()}
    missing = min(size, total) - sum(quota.values())
    for label in sorted(exact, key=lambda name: (quota[name] - exact[name], name))[:missing]:
        quota[label] += 1
    return quota
