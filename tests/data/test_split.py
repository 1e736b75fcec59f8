from __future__ import annotations

from collections import Counter

import pytest

from phi3tune.chat import Message
from phi3tune.data import split

EXPECTED = ["validation", "train", "test", "validation", "train", "train", "test", "train", "train", "train"]


def _keys(count: int) -> list[bytes]:
    return [split.key([{"role": "user", "content": str(n)}]) for n in range(count)]


def test_shares_are_of_rows() -> None:
    parts = split.divide(_keys(1000), 7, {"test": 0.1, "validation": 0.2})
    assert parts is not None
    assert Counter(parts) == {"train": 700, "validation": 200, "test": 100}


def test_the_division_is_the_same_everywhere() -> None:
    # Written down, so that a change of the algorithm or of the platform shows.
    assert split.divide(_keys(10), 7, {"test": 0.2, "validation": 0.2}) == EXPECTED
    assert split.divide(_keys(10), 8, {"test": 0.2, "validation": 0.2}) != EXPECTED


def test_identical_rows_never_straddle() -> None:
    keys = _keys(40) * 3
    for seed in range(20):
        parts = split.divide(keys, seed, {"test": 0.1, "validation": 0.1})
        assert parts is not None
        assert parts[:40] == parts[40:80] == parts[80:]
        assert set(parts) == {"train", "validation", "test"}


def test_the_test_part_does_not_depend_on_the_validation_share() -> None:
    keys = _keys(50)
    one, two = (split.divide(keys, 3, {"test": 0.2, "validation": share}) for share in (0.0, 0.3))
    assert one is not None and two is not None
    assert [part == "test" for part in one] == [part == "test" for part in two]


@pytest.mark.parametrize(("rows", "validation", "test"), [(3, 0.1, 0.1), (2, 0.0, 0.5), (1, 0.0, 0.0)])
def test_every_part_gets_something(rows: int, validation: float, test: float) -> None:
    parts = split.divide(_keys(rows), 1, {"test": test, "validation": validation})
    assert parts is not None
    assert Counter(parts)["train"] >= 1
    assert len(set(parts)) == 1 + (validation > 0) + (test > 0)


def test_too_few_different_rows() -> None:
    assert split.divide(_keys(2), 1, {"test": 0.1, "validation": 0.1}) is None
    assert split.divide(_keys(1) * 50, 1, {"test": 0.1}) is None
    assert split.divide([], 1, {}) is None


def test_keys_tell_text_and_roles_apart() -> None:
    one: list[Message] = [{"role": "user", "content": "ab"}, {"role": "assistant", "content": "c"}]
    two: list[Message] = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "bc"}]
    assert split.key(one) == split.key([dict(m) for m in one])  # type: ignore[misc]
    assert split.key(one) != split.key(two)
    assert split.key(one) != split.key([{"role": "system", "content": "ab"}, one[1]])
