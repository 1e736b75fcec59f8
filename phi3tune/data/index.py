"""What is kept of every row to find out which rows belong together: hashes, less than 300 bytes a row."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from phi3tune.data import near, split
from phi3tune.data.conversation import Conversation
from phi3tune.data.words import WordIds, frame, of_row, telling, text_hash

if TYPE_CHECKING:
    import numpy as np

FilePart = Literal["all", "train", "validation", "test"]
KEY_BYTES = 32
_FILE_PARTS: tuple[FilePart, ...] = ("all", "train", "validation", "test")
_BATCH = 1000
# Answers are labels when there are few different ones, all short, each in several rows on average.
MOST_LABELS = 100
LONGEST_LABEL = 60  # characters
ROWS_PER_LABEL = 5
_LONG_ENOUGH = 100  # characters
_ANSWERS, _SHOWN = 10, 200
_PATTERN_SHARE, _PATTERN_ROWS = 0.1, 10
_Edges = tuple[Any, Any]  # int64 arrays of positions: which row belongs to which other
Reread = Callable[[], Iterable[Conversation]]


@dataclass
class Relations:
    """Groups of at least two positions (rows in the order in which they were added), each sorted.

    exact: identical conversations. near: nearly the same ones, the first of each identical group standing for all.
    contradictory: the same prompt with different answers. leaks: rows that belong together, some in the file
    for training and some in a file for validation or test. roots: one number per row, the same for rows that
    must be in the same part.
    """

    exact: list[list[int]]
    near: list[list[int]]
    contradictory: list[list[int]]
    leaks: list[list[int]]
    roots: list[int]
    answers: list[tuple[str, int]]


class RowIndex:
    """Filled row by row; holds no text but the labels, when the answers are from a small set."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self.file_ids = array("H")
        self.rows = array("I")
        self._lines = array("I")
        self.parts = array("B")
        self.keys = bytearray()
        self.answers = array("Q")
        self._labels: dict[str, int] | None = {}
        self._label_ids = array("B")
        self._prompts = array("Q")
        self._plain = array("B")
        self._declared = array("Q")
        self._whole = array("Q")
        self._prefixes = array("Q")
        self._prefix_rows = array("I")
        self._bands: list[np.ndarray[Any, Any]] = []
        self._waiting: list[Sequence[str]] = []
        self._frame: frozenset[str] | None = None
        self._ids = WordIds()

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, part: FilePart, conversation: Conversation, words: tuple[list[str], list[str]] | None = None) -> None:
        """Add a row; `words` is `words.of_row(conversation)` where it is known already."""
        prompt, answer = of_row(conversation) if words is None else words
        if not self.files or self.files[-1] != conversation.file:
            self.files.append(conversation.file)
        self.file_ids.append(len(self.files) - 1)
        self.rows.append(conversation.row)
        self._lines.append(conversation.line or 0)
        self.parts.append(_FILE_PARTS.index(part))
        self.keys += split.key(conversation.messages)
        self._prompts.append(text_hash(" ".join(prompt)))
        self.answers.append(text_hash(" ".join(answer)))
        self._plain.append(len(conversation.messages) == 1)
        self._declared.append(0 if conversation.group is None else text_hash(conversation.group))
        self._add_label(conversation)
        self._add_prefixes(conversation)
        self._waiting.append(prompt)
        if len(self._waiting) == _BATCH:
            self._flush()

    def key(self, position: int) -> bytes:
        """`split.key` of a row."""
        return bytes(self.keys[position * KEY_BYTES : (position + 1) * KEY_BYTES])

    def file(self, position: int) -> str:
        return self.files[self.file_ids[position]]

    def line(self, position: int) -> int | None:
        return self._lines[position] or None

    def file_part(self, position: int) -> FilePart:
        return _FILE_PARTS[self.parts[position]]

    def labels(self) -> list[str] | None:
        """The label of each row, or None: answers are labels when there are 2 to 100 different ones, none longer than
        60 characters or one line, with 5 rows each on average."""
        if self._labels is None or not 2 <= len(self._labels) <= len(self) / ROWS_PER_LABEL:
            return None
        names = list(self._labels)
        return [names[number] for number in self._label_ids]

    def relations(self, reread: Reread) -> Relations:
        """Which rows belong together. `reread` gives the rows again in the same order; it is called at most once."""
        import numpy as np

        self._flush()
        count = len(self)
        keys = np.frombuffer(bytes(self.keys), dtype=f"V{KEY_BYTES}")
        prompts = np.array(self._prompts, dtype=np.uint64)
        exact = _chains(keys)
        prompt_chains = _chains(prompts, ~np.array(self._plain, dtype=bool))
        near_pairs, answers = self._near_pairs(prompts, reread)
        hard = _join(count, [exact, _chains(np.array(self._declared, dtype=np.uint64), np.array(self._declared) != 0)])
        prompt_groups = _join(count, [prompt_chains])
        soft = _join(count, [_edges(hard), self._prefix_edges(), _edges(_unless_pattern(prompt_groups)), near_pairs])
        roots = np.where(_pattern(soft), hard + count, soft)
        same_prompt = _groups(prompt_groups)
        parts = np.array(self.parts)
        train = _FILE_PARTS.index("train")
        return Relations(
            exact=_groups(_join(count, [exact])),
            near=_groups(_join(count, [near_pairs])),
            contradictory=[group for group in same_prompt if len({self.answers[i] for i in group}) > 1],
            leaks=[g for g in _groups(roots) if (parts[g] == train).any() and (parts[g] > train).any()],
            roots=roots.tolist(),
            answers=answers,
        )

    def _flush(self) -> None:
        if not self._waiting:
            return
        if self._frame is None:
            self._frame = frame(self._waiting)
        left_out = self._frame
        self._bands.append(near.signatures([telling(prompt, left_out) for prompt in self._waiting], self._ids))
        self._waiting = []

    def _add_label(self, conversation: Conversation) -> None:
        if self._labels is None:
            return
        label = conversation.reference.strip()
        number = self._labels.setdefault(label, len(self._labels))
        if len(conversation.messages) == 1 or len(label) > LONGEST_LABEL or "\n" in label or number >= MOST_LABELS:
            self._labels = None
            del self._label_ids[:]
        else:
            self._label_ids.append(number)

    def _add_prefixes(self, conversation: Conversation) -> None:
        """Hashes of the conversation and of its beginnings that end with an answer, where they are long enough."""
        messages = conversation.messages
        hasher, length, own = hashlib.blake2b(digest_size=8), 0, 0
        for number, message in enumerate(messages, 1):
            content = message["content"]
            length += len(content)
            hasher.update(f"{message['role']}\0{content}\0".encode("utf-8", "surrogatepass"))
            if length >= _LONG_ENOUGH and message["role"] == "assistant":
                own = int.from_bytes(hasher.copy().digest(), "big")
                if number < len(messages):
                    self._prefixes.append(own)
                    self._prefix_rows.append(len(self._whole))
        self._whole.append(own)

    def _prefix_edges(self) -> _Edges:
        import numpy as np

        whole, prefixes = np.array(self._whole, dtype=np.uint64), np.array(self._prefixes, dtype=np.uint64)
        order = np.argsort(whole, kind="stable")
        places = np.searchsorted(whole[order], prefixes)
        found = order[np.minimum(places, max(len(order) - 1, 0))] if len(order) else places
        same = whole[found] == prefixes if len(order) else np.zeros(0, dtype=bool)
        return np.array(self._prefix_rows, dtype=np.int64)[same], found[same]

    def _near_pairs(self, prompts: np.ndarray[Any, Any], reread: Reread) -> tuple[_Edges, list[tuple[str, int]]]:
        """Verified pairs, each row standing for those with its words; and the most frequent answers."""
        import numpy as np

        answers = np.array(self.answers, dtype=np.uint64)
        if not len(answers):
            return (np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)), []
        _, first, same = np.unique(np.stack([prompts, answers], axis=1), axis=0, return_index=True, return_inverse=True)
        firsts = np.sort(first)
        pairs = firsts[near.candidates(np.concatenate(self._bands)[firsts])]
        _, first_answer, which, often = np.unique(answers, return_index=True, return_inverse=True, return_counts=True)
        top = {
            int(first_answer[i]): int(often[i]) for i in np.argsort(-often, kind="stable")[:_ANSWERS] if often[i] > 1
        }
        wanted = set(pairs.reshape(-1).tolist())
        texts: dict[int, tuple[str, str]] = {}
        shown: dict[int, str] = {}
        left_out = self._frame or frozenset()
        for position, conversation in enumerate(reread() if wanted or top else ()):
            if position in wanted:
                prompt, answer = of_row(conversation)
                texts[position] = " ".join(telling(prompt, left_out)), " ".join(answer)
            if position in top and conversation.prompt_messages:
                shown[position] = conversation.reference[:_SHOWN]

        @lru_cache(maxsize=1024)
        def compared(position: int) -> near.Words:
            prompt, answer = texts[position]
            return near.Words.of(prompt.split(), answer.split())

        rows = often[which]
        kept = [
            (one, two)
            for one, two in pairs.tolist()
            if near.similar(compared(one), compared(two), int(max(rows[one], rows[two])))
        ]
        # Rows with equal words but different text are near duplicates without further ado.
        keys = np.frombuffer(bytes(self.keys), dtype=f"V{KEY_BYTES}")
        _, first_key, of_key = np.unique(keys, return_index=True, return_inverse=True)
        leaders, positions = first[same.reshape(-1)], np.arange(len(keys))
        again = np.flatnonzero((leaders != positions) & (first_key[of_key] == positions))
        verified = np.array(kept, dtype=np.int64).reshape(-1, 2)
        edges = np.concatenate([verified[:, 0], leaders[again]]), np.concatenate([verified[:, 1], again])
        return edges, [(shown[position], count) for position, count in top.items() if position in shown]


def _chains(keys: np.ndarray[Any, Any], among: np.ndarray[Any, Any] | None = None) -> _Edges:
    """Edges between rows with equal keys, each to the next one."""
    import numpy as np

    places = np.arange(len(keys)) if among is None else np.flatnonzero(among)
    _, numbers = np.unique(keys[places], return_inverse=True)
    order = np.argsort(numbers, kind="stable")
    same = numbers[order][1:] == numbers[order][:-1]
    return places[order][:-1][same], places[order][1:][same]


def _edges(roots: np.ndarray[Any, Any]) -> _Edges:
    return _chains(roots, roots >= 0)


def _join(count: int, edges: list[_Edges]) -> np.ndarray[Any, Any]:
    """The number of each row's connected component."""
    import numpy as np
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    one = np.concatenate([pair[0] for pair in edges]).astype(np.int64)
    two = np.concatenate([pair[1] for pair in edges]).astype(np.int64)
    graph = coo_matrix((np.ones(len(one), dtype=np.int8), (one, two)), shape=(count, count))
    roots: np.ndarray[Any, Any] = (
        connected_components(graph, directed=False)[1] if count else np.empty(0, dtype=np.int64)
    )
    return roots


def _pattern(roots: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Whether a row's group holds more than a tenth of all rows (and more than 10): a pattern of the dataset, such
    as one instruction for all rows, and no copies of one row."""
    import numpy as np

    sizes = np.bincount(roots) if len(roots) else roots
    large: np.ndarray[Any, Any] = sizes[roots] > max(_PATTERN_ROWS, _PATTERN_SHARE * len(roots))
    return large


def _unless_pattern(roots: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    import numpy as np

    return np.where(_pattern(roots), -1, roots)


def _groups(roots: np.ndarray[Any, Any]) -> list[list[int]]:
    """Positions with the same root, groups of at least two, in the order of their first rows."""
    import numpy as np

    groups: dict[int, list[int]] = {}
    if len(roots):
        for position in np.flatnonzero(np.bincount(roots)[roots] > 1).tolist():
            groups.setdefault(int(roots[position]), []).append(position)
    return list(groups.values())
