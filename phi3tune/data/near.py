"""Rows that say nearly the same: candidates by MinHash, each verified on its words.

Candidates come from locality-sensitive hashing (Indyk and Motwani 1998) of MinHash signatures (Broder 1997) of
the prompts' words and word pairs. The hashes are fixed, so that a dataset gives the same pairs on every system.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from phi3tune.data.words import WordIds, has_digit

if TYPE_CHECKING:
    import numpy as np

BANDS = 40
_ROWS = 4  # of a signature, in a band: two prompts with Jaccard similarity s meet with 1 - (1 - s**4)**40
_SEED = 7
_SHORT = 16  # words
_CROWD = 32
_NEIGHBOURS = 4
_LAX, _STRICT, _ANSWER = 0.7, 0.88, 0.7
_LONG_ANSWER = 8
_OFTEN = 4


def signatures(prompts: Sequence[Sequence[str]], ids: WordIds) -> np.ndarray[Any, Any]:
    """Hashes of the bands of each prompt's MinHash signature: uint32 [prompts, BANDS]. No prompt is empty."""
    import numpy as np
    from rensa import RMinHash

    flat = np.fromiter((ids[word] for prompt in prompts for word in prompt), dtype=np.uint64)
    lengths = np.array([len(prompt) for prompt in prompts], dtype=np.int64)
    ends = np.cumsum(lengths)
    # A word pairs with the next one, the last of a prompt with itself.
    after = np.roll(flat, -1)
    after[ends - 1] = flat[ends - 1]
    shingles = np.stack([flat * np.uint64(0x9E3779B97F4A7C15) + after, flat], axis=1)
    # In a long prompt the pairs are enough; single words would make all long prompts candidates.
    kept = np.stack([np.ones(len(flat), dtype=bool), np.repeat(lengths <= _SHORT, lengths)], axis=1)
    offsets = np.concatenate([[0], np.cumsum(np.where(lengths <= _SHORT, 2, 1) * lengths)])
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(shingles[kept], offsets, BANDS * _ROWS, _SEED)
    digests = np.array(matrix.to_rows(), dtype=np.uint64).reshape(len(prompts), BANDS, _ROWS)
    mixed = digests[:, :, 0]
    for row in range(1, _ROWS):
        mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9) + digests[:, :, row]
    return (mixed >> np.uint64(32)).astype(np.uint32)


def candidates(bands: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Pairs of positions that share a band: int64 [pairs, 2], each pair once, the lower position first.

    In a crowd of more than 32 with the same band each is only paired with its 4 neighbours in the order of the next
    band: a template with thousands of rows must not make millions of pairs.
    """
    import numpy as np

    count = len(bands)
    found = np.empty(0, dtype=np.int64)
    for band in range(bands.shape[1]):
        order = np.lexsort((bands[:, (band + 1) % bands.shape[1]], bands[:, band]))
        keys = bands[order, band]
        starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])) if count else keys
        sizes = np.diff(np.append(starts, count))
        crowd = np.repeat(sizes, sizes) > _CROWD
        new = []
        for step in range(1, min(int(sizes.max(initial=0)), _CROWD)):
            same = keys[step:] == keys[:-step]
            if step > _NEIGHBOURS:
                same &= ~crowd[step:]
            one, two = order[step:][same], order[:-step][same]
            new.append(np.minimum(one, two) * count + np.maximum(one, two))
        if new:
            found = np.union1d(found, np.concatenate(new))
    return np.stack([found // max(count, 1), found % max(count, 1)], axis=1)


@dataclass(frozen=True)
class Words:
    """A row for comparison: the telling words of its prompt, its answer's words, and the numbers of both in order."""

    prompt: frozenset[str]
    answer: frozenset[str]
    numbers: tuple[str, ...]

    @classmethod
    def of(cls, prompt: Sequence[str], answer: Sequence[str]) -> Words:
        numbers = tuple(word for word in (*prompt, *answer) if has_digit(word))
        return cls(frozenset(prompt), frozenset(answer), numbers)


def similar(one: Words, two: Words, answer_rows: int) -> bool:
    """Whether two rows are near duplicates: in their prompts and in their answers, as sets of words (Dice).

    `answer_rows` is how often their answers occur in the dataset: a long answer that is rare is evidence of its own,
    so that prompts may differ by up to 30 % of their words, and by 12 % otherwise. Rows in which a number, or the
    same word in prompt and answer, is replaced are two cases of one template and no duplicates. A number may be
    missing.
    """
    strong = min(len(one.answer), len(two.answer)) >= _LONG_ANSWER and answer_rows <= _OFTEN
    if _overlap(one.prompt, two.prompt) < (_LAX if strong else _STRICT):
        return False
    if _overlap(one.answer, two.answer) < _ANSWER:
        return False
    fewer, more = sorted((one.numbers, two.numbers), key=len)
    following = iter(more)
    if not all(number in following for number in fewer):
        return False
    gone, come = one.prompt - two.prompt, two.prompt - one.prompt
    gone_answer, come_answer = one.answer - two.answer, two.answer - one.answer
    return not (gone & gone_answer and come & come_answer)


def _overlap(one: frozenset[str], two: frozenset[str]) -> float:
    if not one or not two:
        return float(len(one) == len(two))
    return 2 * len(one & two) / (len(one) + len(two))
