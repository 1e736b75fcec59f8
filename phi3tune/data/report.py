"""What a dataset is to a model: token counts, what is cut, and every problem."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel

from phi3tune.chat import Example, Renderer
from phi3tune.config import DatasetConfig, Part, TrainConfig
from phi3tune.data import formats
from phi3tune.data.load import PARTS, Conversation, Dataset, read
from phi3tune.data.problems import Problem
from phi3tune.paths import Workspace

_BATCH = 1000
_BINS = 20
_NAMED = 100


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


class Finding(BaseModel):
    """Something about several rows of one file; `rows` count from 0, at most 100 are named."""

    code: str
    rows: list[int]
    detail: str


class DataReport(BaseModel):
    """The audit of a dataset for one model and one maximum length in tokens."""

    rows: dict[Part, int]
    format: str
    mapping: dict[str, str]
    max_length: int
    tokens: TokenStats
    histogram: list[Bin]
    truncated_rows: int
    unlearnable_rows: int
    problems: list[Problem]
    findings: list[Finding]


def tokenise(conversations: Sequence[Conversation], renderer: Renderer, max_length: int | None) -> list[Example]:
    """Training examples in the order of the conversations, cut at `max_length` tokens."""
    return list(_examples(conversations, renderer, max_length))


def _examples(conversations: Sequence[Conversation], renderer: Renderer, max_length: int | None) -> Iterator[Example]:
    for start in range(0, len(conversations), _BATCH):
        batch = [conversation.messages for conversation in conversations[start : start + _BATCH]]
        yield from renderer.training_examples(batch, max_length)


def report(dataset: Dataset, renderer: Renderer, max_length: int) -> DataReport:
    """Count the tokens of every row and find the rows that lose something at `max_length`."""
    conversations = dataset.conversations
    lengths, total, trained = [], 0, 0
    truncated, unlearnable = [], []
    for conversation, whole in zip(conversations, _examples(conversations, renderer, None), strict=True):
        lengths.append(len(whole.input_ids))
        kept = Example(whole.input_ids[:max_length], whole.labels[:max_length], len(whole.input_ids) > max_length)
        total += len(kept.input_ids)
        trained += kept.trained
        if kept.truncated:
            truncated.append(conversation)
            if not kept.trained:
                unlearnable.append(conversation)
    problems = dataset.problems
    if truncated:
        first = truncated[0]
        found = f"{len(truncated):,} rows longer than {max_length:,} tokens, first row {first.row}"
        fix = "raise max_length, or shorten them: what is beyond is cut"
        problems.append(
            Problem(
                code="row_too_long",
                severity="warning",
                file=first.file,
                line=first.line,
                found=found,
                expected=f"at most {max_length:,} tokens",
                fix=fix,
            )
        )
    cut = _findings("row_too_long", truncated, f"longer than {max_length:,} tokens: the rest is cut")
    lost = _findings("no_target_left", unlearnable, "no answer token is left after cutting")
    return DataReport(
        rows=_rows(dataset),
        format=dataset.format,
        mapping=dataset.mapping,
        max_length=max_length,
        tokens=_stats(lengths, total, trained),
        histogram=_histogram(lengths),
        truncated_rows=len(truncated),
        unlearnable_rows=len(unlearnable),
        problems=problems,
        findings=cut + lost + _content_findings(dataset),
    )


def check(config: DatasetConfig, workspace: Workspace, renderer: Renderer | None = None) -> dict[str, Any]:
    """The audit that `data check --json` prints; problems of rows are told, not raised.

    `rows` counts those that can be used. Without a renderer `tokens` is None.
    Raises `UserError` when there is no such dataset.
    """
    dataset = read(config, workspace)
    rows = _rows(dataset)
    result: dict[str, Any] = {"rows": sum(rows.values()), "parts": rows}
    result |= {"format": dataset.format, "mapping": dataset.mapping, "tokens": None}
    problems, findings = dataset.problems, _content_findings(dataset)
    if renderer is not None:
        max_length = getattr(config, "max_length", TrainConfig.model_fields["max_length"].default)
        full = report(dataset, renderer, max_length)
        problems, findings = full.problems, full.findings
        result["tokens"] = full.tokens.model_dump()
        result |= full.model_dump(include={"max_length", "histogram", "truncated_rows", "unlearnable_rows"})
    result["problems"] = [problem.model_dump() for problem in problems]
    result["problems_left_out"] = dataset.log.left_out
    result["findings"] = [finding.model_dump() for finding in findings]
    return result


def preview(dataset: Dataset, part: Part, n: int) -> list[Conversation]:
    """The first `n` conversations of a part."""
    return dataset.parts[part][:n]


def _rows(dataset: Dataset) -> dict[Part, int]:
    return {part: len(dataset.parts[part]) for part in PARTS}


def _stats(lengths: list[int], total: int, trained: int) -> TokenStats:
    if not lengths:
        return TokenStats()
    ordered = sorted(lengths)
    return TokenStats(
        total=total,
        trained=trained,
        mean=statistics.fmean(ordered),
        median=statistics.median(ordered),
        p95=ordered[max(0, -(-len(ordered) * 95 // 100) - 1)],
        max=ordered[-1],
    )


def _histogram(lengths: list[int]) -> list[Bin]:
    if not lengths:
        return []
    width = max(lengths) // _BINS + 1
    counts = [0] * (max(lengths) // width + 1)
    for length in lengths:
        counts[length // width] += 1
    return [Bin(low=i * width, high=(i + 1) * width - 1, rows=count) for i, count in enumerate(counts)]


def _content_findings(dataset: Dataset) -> list[Finding]:
    reserved = [c for c in dataset.conversations if any(formats.RESERVED.search(m["content"]) for m in c.messages)]
    findings = _findings("reserved_token", reserved, "holds the model's own tokens: trained as plain text")
    for group in dataset.duplicates[:_NAMED]:
        findings += _findings("duplicate_rows", group, "identical conversations")
    return findings


def _findings(code: str, conversations: Sequence[Conversation], detail: str) -> list[Finding]:
    """One finding for each file."""
    rows: dict[str, list[int]] = {}
    for conversation in conversations:
        rows.setdefault(conversation.file, []).append(conversation.row)
    return [
        Finding(code=code, rows=sorted(found)[:_NAMED], detail=f"{file}: {len(found):,} rows; {detail}")
        for file, found in rows.items()
    ]
