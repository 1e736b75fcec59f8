"""A dataset's conversations into its parts, and what is wrong with them: repeated rows, leaks, too few."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from phi3tune.config import DatasetConfig, Part
from phi3tune.data import split
from phi3tune.data.conversation import Conversation
from phi3tune.data.index import FilePart as FilePart
from phi3tune.data.index import Relations, RowIndex
from phi3tune.data.problems import ProblemLog

if TYPE_CHECKING:
    from phi3tune.data.load import Dataset

Places = Mapping[str, Sequence[Sequence[str | int]]]
PARTS: tuple[Part, ...] = get_args(Part)
_HELD_OUT: tuple[Part, ...] = ("test", "validation")


def divide(dataset: Dataset, found: dict[FilePart, list[Conversation]], saved: Places | None = None) -> None:
    """Fill `dataset.parts` and `dataset.duplicates` from the rows found in the file of each part (`all`: to divide).

    `saved` is the `split` of an earlier `Dataset.record()` of the same data, as part -> [file, row]: it is taken
    over exactly. Repeated rows and leaks are logged as warnings, too few rows as an error.
    """
    if saved is not None:
        at = {(c.file, c.row): c for rows in found.values() for c in rows}
        for part in PARTS:
            places = (tuple(place) for place in saved.get(part, []))
            dataset.parts[part] = [at[place] for place in places if place in at]
        return
    index = RowIndex()
    conversations = [conversation for rows in found.values() for conversation in rows]
    for file_part, rows in found.items():
        for conversation in rows:
            index.add(file_part, conversation)
    relations = index.relations(lambda: conversations)
    dataset.duplicates = [[conversations[position] for position in group] for group in relations.exact]
    report_repeats(index, relations, dataset.log)
    parts = assign(index, relations, dataset.config, set(found), dataset.log, Path(dataset.source).name)
    for part in PARTS:
        dataset.parts[part] = [c for c, own in zip(conversations, parts, strict=True) if own == part]


def assign(
    index: RowIndex,
    relations: Relations,
    config: DatasetConfig,
    given: set[FilePart],
    log: ProblemLog,
    file: str,
) -> list[Part | None]:
    """The part of each row, None for those beyond `config.max_rows` of training.

    Rows of a file for one part (`given`) stay there. Too few rows to divide are logged as an error for `file`, and are
    all for training then.
    """
    pool = [i for i in range(len(index)) if index.file_part(i) in ("all", "train")]
    sizes = {part: _size(config, part, len(pool)) for part in _HELD_OUT if part not in given}
    groups, labels = relations.roots, index.labels()
    keys = [index.key(i) for i in pool]
    divided = None
    if sum(sizes.values()) < max(len(pool), 1):
        pooled = [labels[i] for i in pool] if labels else None
        divided = split.divide(keys, config.split_seed, sizes, [groups[i] for i in pool], pooled)
    if divided is None and not log.error_count:
        counts = [size for size in sizes.values() if size > 0]
        needed = max(1 + len(counts), 1 + sum(counts))
        fix = "add rows, or set the sizes of validation and test to 0"
        text = f"{len({groups[i] for i in pool}):,} different rows"
        log.error("too_few_rows", file, None, text, f"at least {needed} to divide", fix)
    everything: list[Part] = ["train"] * len(pool)
    own = dict(zip(pool, divided or everything, strict=True))
    parts: list[Part | None] = []
    train = 0
    for position in range(len(index)):
        file_part = index.file_part(position)
        part = own[position] if file_part == "all" else own.get(position, file_part)
        train += part == "train"
        beyond = part == "train" and config.max_rows is not None and train > config.max_rows
        parts.append(None if beyond else part)
    return parts


def report_repeats(index: RowIndex, relations: Relations, log: ProblemLog) -> None:
    """Warn of identical rows, and of rows for training that are in a file for validation or test, too."""
    if relations.exact:
        first, again = relations.exact[0][:2]
        extra = sum(len(group) - 1 for group in relations.exact)
        place = f"{index.file(again)} row {index.rows[again]} (as row {index.rows[first]})"
        found = f"{extra:,} {'row that repeats' if extra == 1 else 'rows that repeat'} another, first {place}"
        fix = "remove them; repeated rows weigh more in training"
        log.warn("duplicate_rows", index.file(again), index.line(again), found, "every conversation once", fix)
    leaked = [i for group in relations.leaks for i in group if index.file_part(i) != "train"]
    for part in PARTS[1:]:
        rows = sorted(i for i in leaked if index.file_part(i) == part)
        if rows:
            found = f"{len(rows):,} rows that are in the train file, too, alike or nearly so"
            fix = "remove them; a score on them is no held-out score"
            log.warn("leak", index.file(rows[0]), index.line(rows[0]), found, "rows that training has not seen", fix)


def _size(config: DatasetConfig, part: Part, rows: int) -> int:
    count: int | None = getattr(config, f"{part}_rows")
    share: float = getattr(config, f"{part}_share")
    return count if count is not None else max(1, round(rows * share)) if share > 0 else 0
