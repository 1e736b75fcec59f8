from __future__ import annotations

from collections import Counter

import pytest

from phi3tune.chat import Message
from phi3tune.data import split

EXPECTED = ["validation", "train", "test", "validation", "train", "train", "test", "train", "train", "train"]


def _keys(count: int) -> list[bytes]:
    return [split.key([{"role": "user", "content": str(n)}]) for n in range(count)]


def test_sizes_are_rows() -> None:
    parts = split.divide(_keys(1000), 7, {"test": 100, "validation": 200})
    assert parts is not None
    assert Counter(parts) == {"train": 700, "validation": 200, "test": 100}


def test_the_division_is_the_same_everywhere() -> None:
    # Written down, so that a change of the algorithm or of the platform shows.
    assert split.divide(_keys(10), 7, {"test": 2, "validation": 2}) == EXPECTED
    assert split.divide(_keys(10), 8, {"test": 2, "validation": 2}) != EXPECTED


def test_identical_rows_never_straddle() -> None:
    keys = _keys(40) * 3
    for seed in range(20):
        parts = split.divide(keys, seed, {"test": 12, "validation": 12})
        assert parts is not None
        assert parts[:40] == parts[40:80] == parts[80:]
        assert set(parts) == {"train", "validation", "test"}


def test_the_test_part_does_not_depend_on_the_validation_part() -> None:
    keys = _keys(50)
    one, two = (split.divide(keys, 3, {"test": 10, "validation": size}) for size in (0, 15))
    assert one is not None and two is not None
    assert [part == "test" for part in one] == [part == "test" for part in two]


@pytest.mark.parametrize(("rows", "validation", "test"), [(3, 1, 1), (2, 0, 1), (1, 0, 0)])
def test_every_part_gets_something(rows: int, validation: int, test: int) -> None:
    parts = split.divide(_keys(rows), 1, {"test": test, "validation": validation})
    assert parts is not None
    assert Counter(parts)["train"] >= 1
    assert len(set(parts)) == 1 + (validation > 0) + (test > 0)


def test_too_few_different_rows() -> None:
    assert split.divide(_keys(2), 1, {"test": 1, "validation": 1}) is None
    assert split.divide(_keys(1) * 50, 1, {"test": 5}) is None
    assert split.divide([], 1, {}) is None


def test_keys_tell_text_and_roles_apart() -> None:
    one: list[Message] = [{"role": "user", "content": "ab"}, {"role": "assistant", "content": "c"}]
    two: list[Message] = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "bc"}]
    assert split.key(one) == split.key([dict(m) for m in one])  # type: ignore[misc]
    assert split.key(one) != split.key(two)
    assert split.key(one) != split.key([{"role": "system", "content": "ab"}, one[1]])


def test_groups_stay_together_and_go_by_their_lowest_key() -> None:
    keys = _keys(60)
    groups = [n // 3 for n in range(60)]
    parts = split.divide(keys, 7, {"test": 6, "validation": 6}, groups)
    assert parts is not None
    assert all(len(set(parts[3 * n : 3 * n + 3])) == 1 for n in range(20))
    assert Counter(parts) == {"train": 48, "validation": 6, "test": 6}
    backwards = split.divide(keys[::-1], 7, {"test": 6, "validation": 6}, groups[::-1])
    assert backwards == parts[::-1]


def test_each_label_gives_its_share() -> None:
    labels = ["a"] * 70 + ["b"] * 20 + ["c"] * 10
    parts = split.divide(_keys(100), 7, {"test": 10, "validation": 20}, labels=labels)
    assert parts is not None
    assert Counter(zip(parts, labels, strict=True)) == {
        ("test", "a"): 7,
        ("test", "b"): 2,
        ("test", "c"): 1,
        ("validation", "a"): 14,
        ("validation", "b"): 4,
        ("validation", "c"): 2,
        ("train", "a"): 49,
        ("train", "b"): 14,
        ("train", "c"): 7,
    }
