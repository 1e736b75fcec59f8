"""What a dataset is to a model: token counts, what is cut, every problem, and what is wrong with its rows."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from phi3tune.chat import Example, Renderer
from phi3tune.config import DatasetConfig, Part, TrainConfig
from phi3tune.data.audit.findings import Findings
from phi3tune.data.audit.languages import Languages
from phi3tune.data.audit.lengths import Lengths
from phi3tune.data.audit.rows import RowChecks
from phi3tune.data.conversation import Conversation
from phi3tune.data.division import PARTS, assign, report_repeats
from phi3tune.data.index import FilePart, Relations, Reread, RowIndex
from phi3tune.data.problems import Problem, ProblemLog
from phi3tune.data.source import Source
from phi3tune.data.words import of_row
from phi3tune.paths import Workspace

_BATCH = 1000
_ALLOCATIONS = 200_000  # between two looks of the collector; Python's own figure is 700
_Row = TypeVar("_Row")


def tokenise(conversations: Sequence[Conversation], renderer: Renderer, max_length: int | None) -> list[Example]:
    """Training examples in the order of the conversations, cut at `max_length` tokens."""
    examples: list[Example] = []
    for batch in _batches(conversations):
        examples += renderer.training_examples([conversation.messages for conversation in batch], max_length)
    return examples


def check(
    config: DatasetConfig,
    workspace: Workspace,
    renderer: Renderer | None = None,
    *,
    languages: bool = True,
    report: Callable[[int], None] = lambda rows: None,
) -> dict[str, Any]:
    """The audit that `data check --json` prints; problems of rows are told, not raised.

    All rows that can be used are looked at; `parts` counts them after the division (and after `max_rows`). Without a
    renderer `tokens` is None. Languages are those of a sample. Reads the dataset once, and once more
    where rows look alike; what is kept in memory is an index, of at most about 1 kB a row
    while rows are grouped and divided, and the findings. `report` is told how many rows have been looked at; what it
    raises ends the audit.
    Raises `UserError` when there is no such dataset.
    """
    max_length = getattr(config, "max_length", TrainConfig.model_fields["max_length"].default)
    source = Source(config, workspace)
    with _COLLECTOR.seldom():
        audit = Audit(renderer, max_length, languages=languages)
        rows = 0
        for batch in _batches(source.read()):
            audit.add(batch)
            rows += len(batch)
            report(rows)
        log = source.log  # another reading begins another one
        result = audit.finish(lambda: (row for _, row in source.read()), config, set(source.files), log)
    read_as = {"format": source.format, "mapping": source.mapping, "columns": source.columns}
    return result | read_as | {"suggested_mapping": source.suggested}


class _Collector:
    """Python's collector of reference cycles, made to look seldom while rows stream through: they make no cycles, and
    looking at them again and again is an eighth of the time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._usual = gc.get_threshold()

    @contextmanager
    def seldom(self) -> Iterator[None]:
        with self._lock:
            if self._users == 0:
                self._usual = gc.get_threshold()
                gc.set_threshold(_ALLOCATIONS, *self._usual[1:])
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    gc.set_threshold(*self._usual)


_COLLECTOR = _Collector()


class Audit:
    """The audit of rows that come in batches: tokenised in a thread while the batch before is looked at."""

    def __init__(self, renderer: Renderer | None, max_length: int, *, languages: bool = True) -> None:
        self._renderer = renderer
        self._lengths = Lengths(max_length)
        self._languages = Languages() if languages else None
        self._findings = Findings()
        self._checks = RowChecks(self._findings)
        self._index = RowIndex()
        self._turns = self._most_turns = 0
        self._first_too_long: Conversation | None = None
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._counting: tuple[list[Conversation], Future[list[list[tuple[int, bool]]]]] | None = None

    def add(self, batch: Sequence[tuple[FilePart, Conversation]]) -> None:
        """Look at a batch of rows. Raises `UserError` for a chat that the model's template cannot hold."""
        conversations = [conversation for _, conversation in batch]
        if self._renderer is not None:
            self._collect()
            chats = [conversation.messages for conversation in conversations]
            self._counting = conversations, self._thread.submit(self._renderer.spans, chats)
        for part, conversation in batch:
            prompt, answer = of_row(conversation)
            self._index.add(part, conversation, (prompt, answer))
            self._checks.look(conversation, prompt + answer)
            turns = sum(message["role"] != "system" for message in conversation.messages)
            self._turns += turns
            self._most_turns = max(self._most_turns, turns)
            if self._languages is not None:
                self._languages.add(conversation)

    def finish(self, reread: Reread, config: DatasetConfig, given: set[FilePart], log: ProblemLog) -> dict[str, Any]:
        """The result; `reread` gives the rows again, in the same order."""
        self._collect()
        self._thread.shutdown()
        self._checks.finish()
        index = self._index
        relations = index.relations(reread)
        report_repeats(index, relations, log)
        parts = assign(index, relations, config, given, log, Path(config.dataset).name)
        self._add_groups(relations)
        problems = log.problems + _too_long(self._first_too_long, self._lengths)
        stats = self._lengths.stats()
        counted = self._renderer is not None
        held_out = {index.file(i) for i in range(len(index)) if index.file_part(i) in ("validation", "test")}
        return {
            "rows": len(index),
            "parts": {part: parts.count(part) for part in PARTS},
            "max_length": self._lengths.max_length,
            "tokens": stats.model_dump() if counted else None,
            "trained_share": stats.trained / stats.total if stats.total else None,
            "turns": {"mean": self._turns / max(1, len(index)), "max": self._most_turns},
            "histogram": [each.model_dump() for each in self._lengths.histogram()],
            "truncated_rows": self._lengths.truncated,
            "cut_answers": self._lengths.cut_answers,
            "unlearnable_rows": self._lengths.unlearnable,
            "languages": self._languages.shares() if self._languages is not None else [],
            "languages_sampled": len(self._languages) if self._languages is not None else 0,
            "answers": [{"text": text, "rows": rows} for text, rows in relations.answers],
            "labels": _label_balance(index.labels(), parts),
            "problems": [problem.model_dump() for problem in problems],
            "problems_left_out": log.left_out,
            "findings": [finding.model_dump(mode="json") for finding in self._findings.list(held_out)],
        }

    def _collect(self) -> None:
        """Take the lengths of the batch that the thread has counted."""
        if self._counting is None:
            return
        conversations, counted = self._counting
        for conversation, spans in zip(conversations, counted.result(), strict=True):
            for code in self._lengths.add(spans):
                self._findings.add(code, conversation.file, conversation.row)
                self._first_too_long = self._first_too_long or conversation
        self._counting = None

    def _add_groups(self, relations: Relations) -> None:
        grouped = {
            "duplicate_rows": relations.exact,
            "near_duplicate_rows": relations.near,
            "contradictory_answers": relations.contradictory,
            "leak": relations.leaks,
        }
        for code, groups in grouped.items():
            for group in groups:
                self._findings.add_group(code, [(self._index.file(i), self._index.rows[i]) for i in group])


def _too_long(first: Conversation | None, lengths: Lengths) -> list[Problem]:
    if first is None:
        return []
    problem = Problem(
        code="row_too_long",
        severity="warning",
        file=first.file,
        line=first.line,
        found=f"{lengths.truncated:,} rows longer than {lengths.max_length:,} tokens, first row {first.row}",
        expected=f"at most {lengths.max_length:,} tokens",
        fix="raise max_length, or shorten them: what is beyond is cut",
    )
    return [problem]


def _label_balance(labels: Sequence[str] | None, parts: Sequence[Part | None]) -> list[dict[str, Any]] | None:
    """Rows of each label in each part, most frequent label first."""
    if labels is None:
        return None
    counts: dict[str, dict[str, Any]] = {label: {"label": label} | dict.fromkeys(PARTS, 0) for label in labels}
    for label, part in zip(labels, parts, strict=True):
        if part is not None:
            counts[label][part] += 1
    return sorted(counts.values(), key=lambda row: -sum(row[part] for part in PARTS))


def _batches(rows: Iterable[_Row]) -> Iterator[list[_Row]]:
    following = iter(rows)
    while batch := list(islice(following, _BATCH)):
        yield batch
