"""How long rows are in tokens, and what a longest length takes from them."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from pydantic import BaseModel

_BINS = 20
Spans = Sequence[tuple[int, bool]]


class TokenStats(BaseModel):
    """Tokens of all rows. `total` and `trained` are after cutting; the rest is of whole conversations."""

    total: int = 0
    trained: int = 0
    mean: float = 0.0
    median: float = 0.0
    p95: int = 0
    max: int = 0


class Bin(BaseModel):
    """Conversations of `low` to `high` tokens, both included."""

    low: int
    high: int
    rows: int


class Lengths:
    """Adds up rows given as `Renderer.spans`, cut at `max_length` tokens."""

    def __init__(self, max_length: int) -> None:
        self.max_length = max_length
        self.truncated = self.cut_answers = self.unlearnable = 0
        self._lengths = array("I")
        self._total = self._trained = 0

    def add(self, spans: Spans) -> list[str]:
        """Count a row; the codes of the findings that its length makes."""
        length = sum(count for count, _ in spans)
        learned = sum(count for count, flag in spans if flag)
        self._lengths.append(length)
        self._total += min(length, self.max_length)
        if length <= self.max_length:
            self._trained += learned
            return []
        kept, at = 0, 0
        for count, flag in spans:
            kept += max(0, min(count, self.max_length - at)) if flag else 0
            at += count
        self._trained += kept
        self.truncated += 1
        self.cut_answers += kept < learned
        self.unlearnable += not kept
        return ["row_too_long"] if kept else ["row_too_long", "no_target_left"]

    def stats(self) -> TokenStats:
        import numpy as np

        if not self._lengths:
            return TokenStats()
        ordered = np.sort(np.array(self._lengths))
        return TokenStats(
            total=self._total,
            trained=self._trained,
            mean=float(ordered.mean()),
            median=float(np.median(ordered)),
            p95=int(ordered[max(0, -(-len(ordered) * 95 // 100) - 1)]),
            max=int(ordered[-1]),
        )

    def histogram(self) -> list[Bin]:
        """About 20 bins of equal width, from the shortest row to the longest; none without rows."""
        import numpy as np

        if not self._lengths:
            return []
        shortest, longest = min(self._lengths), max(self._lengths)
        width = (longest - shortest) // _BINS + 1
        first = shortest - shortest % width
        counts = np.bincount((np.array(self._lengths) - first) // width).tolist()
        return [
            Bin(low=first + i * width, high=first + (i + 1) * width - 1, rows=rows) for i, rows in enumerate(counts)
        ]
