from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from phi3tune.chat import Renderer
from phi3tune.config import Precision
from phi3tune.data import Conversation
from phi3tune.engines.base import Chunk, Completion, EngineInfo, Request, Usage, never
from phi3tune.errors import UserError
from phi3tune.events import Phase, Progress
from phi3tune.export.parity import TIE, Limits, _widened, compare
from tests.fakes import RecordingReporter

VOCAB = 32064
Change = Callable[[np.ndarray], np.ndarray]


class TableEngine:
    """The next token's logits depend on the last token alone: a random row for each."""

    def __init__(self, folder: Path, change: Change = lambda row: row, *, chunk: int = 5, context: int = 512) -> None:
        self.renderer = Renderer.load(folder)
        self.info = EngineInfo("table", "fake", "fp32", "cpu", context, VOCAB, 0, frozenset({"logits"}))
        self._change = change
        self._chunk = chunk

    def _row(self, token: int) -> np.ndarray:
        row = np.random.default_rng(token).normal(0, 2, VOCAB).astype(np.float32)
        row[row.argmax()] += 1  # a clear first choice
        row[sorted(self.renderer.end_ids)] += 6 if token % 5 == 0 else 0  # so that answers end
        return self._change(row)

    def logits(self, token_ids: Sequence[int], positions: Sequence[int]) -> Iterator[np.ndarray]:
        for start in range(0, len(positions), self._chunk):
            yield np.stack([self._row(token_ids[i]) for i in positions[start : start + self._chunk]])

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        return [self._answer(request) for request in requests]

    def stream(self, request: Request, cancelled: Any = never) -> Iterator[Chunk]:
        answer = self._answer(request)
        yield Chunk(answer.text, answer.token_ids, answer.finish_reason, answer.usage)

    def _answer(self, request: Request) -> Completion:
        ids: list[int] = []
        token = request.prompt_ids[-1]
        while len(ids) < request.sampling.max_new_tokens:
            token = int(self._row(token).argmax())
            if token in self.renderer.end_ids:
                break
            ids.append(token)
        return Completion("", tuple(ids), "stop", Usage(0, 0, len(ids), 0.0, 0.0))


def chat(number: int) -> Conversation:
    texts = [f"question {number}", "first answer", "and then?", f"the answer is {number * 7}, as it was yesterday"]
    roles = ["user", "assistant"] * 2
    messages = tuple({"role": role, "content": text} for role, text in zip(roles, texts, strict=True))
    return Conversation(messages, number, "test.jsonl")  # type: ignore[arg-type]


CHATS = [chat(number) for number in range(4)]


def noise(size: float) -> Change:
    def change(row: np.ndarray) -> np.ndarray:
        return row + np.random.default_rng(int(abs(row[0]) * 1e6)).normal(0, size, VOCAB).astype(np.float32)

    return change


def parity(folder: Path, change: Change, precision: Precision = "int4", **settings: Any) -> dict[str, Any]:
    build = TableEngine(folder, change, chunk=7, **settings)
    report = compare(TableEngine(folder), build, CHATS, precision, RecordingReporter())
    assert report is not None
    return report


def test_agrees_with_torch(tiny_model: Path) -> None:
    merged, build = TableEngine(tiny_model), TableEngine(tiny_model, noise(1.0))
    report = parity(tiny_model, noise(1.0))
    divergences, nll, agree = [], [], []
    for conversation in CHATS:
        example = merged.renderer.training_example(conversation.messages)
        for i, label in enumerate(example.labels[1:]):
            if label < 0:
                continue
            p, q = (
                torch.tensor(next(engine.logits(example.input_ids, [i]))[0]).double().log_softmax(0)
                for engine in (merged, build)
            )
            divergences.append(torch.nn.functional.kl_div(q, p, log_target=True, reduction="sum").item())
            nll.append([-p[label].item(), -q[label].item()])
            agree.append(p.argmax().item() == q.argmax().item())
    assert report["rows"] == 4
    assert report["tokens"] == len(divergences)
    assert report["kl_mean"] == pytest.approx(np.mean(divergences))
    assert report["kl_p99"] == pytest.approx(np.percentile(divergences, 99))
    assert report["top1_agreement"] == pytest.approx(np.mean(agree))
    assert 0 < report["top1_agreement"] < 1
    ours, theirs = np.exp(np.mean(nll, axis=0))
    assert report["perplexity_merged"] == pytest.approx(ours)
    assert report["perplexity_build"] == pytest.approx(theirs)
    assert report["perplexity_ratio"] == pytest.approx(theirs / ours)


@pytest.mark.parametrize("precision", ["int4", "int8", "fp16", "fp32"])
def test_same_model_passes(tiny_model: Path, precision: Precision) -> None:
    report = parity(tiny_model, lambda row: row, precision)
    assert report["passed"] is True
    assert (report["kl_mean"], report["top1_agreement"], report["greedy_match"]) == (0.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("size", "passing"),
    [
        (1e-4, {"fp32", "fp16", "int8", "int4"}),
        (0.002, {"fp16", "int8", "int4"}),
        (0.01, {"int8", "int4"}),
        (0.05, {"int4"}),
        (2.0, set()),
    ],
)
def test_limits_tighten_with_precision(tiny_model: Path, size: float, passing: set[str]) -> None:
    precisions: tuple[Precision, ...] = ("int4", "int8", "fp16", "fp32")
    assert {name for name in precisions if parity(tiny_model, noise(size), name)["passed"]} == passing


def swap_top_two(gap: float) -> tuple[Change, Change]:
    """Two engines whose two likeliest tokens are `gap` apart, in opposite order."""

    def change(row: np.ndarray, sign: int) -> np.ndarray:
        first, second = row.argsort()[::-1][:2]
        row = row.copy()
        row[second] = row[first] - sign * np.float32(gap)
        return row

    return lambda row: change(row, 1), lambda row: change(row, -1)


@pytest.mark.parametrize(("gap", "counts"), [(TIE / 2, True), (TIE * 20, False)])
def test_only_ties_count_as_agreement(tiny_model: Path, gap: float, counts: bool) -> None:
    ours, theirs = swap_top_two(gap)
    report = compare(TableEngine(tiny_model, ours), TableEngine(tiny_model, theirs), CHATS, "fp32", RecordingReporter())
    assert report is not None
    assert report["top1_agreement"] == (1.0 if counts else 0.0)
    assert report["greedy_match"] == (1.0 if counts else 0.0)
    assert report["passed"] is counts


def test_answer_that_ends_early_is_no_match(tiny_model: Path) -> None:
    def eager(row: np.ndarray) -> np.ndarray:
        row = row.copy()
        row[32007] = 100.0
        return row

    assert parity(tiny_model, eager)["greedy_match"] == 0.0


def test_nan_never_passes_and_is_valid_json(tiny_model: Path) -> None:
    report = parity(tiny_model, lambda row: row * np.float32("nan"))
    assert report["passed"] is False
    assert report["kl_mean"] is None


def test_stop_gives_no_report(tiny_model: Path) -> None:
    reporter = RecordingReporter(stop_when=lambda event: isinstance(event, Progress) and event.done == 2)
    assert compare(TableEngine(tiny_model), TableEngine(tiny_model), CHATS, "int4", reporter) is None


def test_chats_that_do_not_fit_are_left_out(tiny_model: Path) -> None:
    short = TableEngine(tiny_model)
    long = replace(CHATS[0], messages=({"role": "user", "content": "word " * 600}, CHATS[0].messages[-1]))
    report = compare(short, short, [long, *CHATS], "int4", RecordingReporter())
    assert report is not None
    assert report["rows"] == len(CHATS)
    with pytest.raises(UserError, match="fits"):
        compare(short, short, [long], "int4", RecordingReporter())


class LateNoise(TableEngine):
    """Wrong only beyond `begin` tokens, as a build whose window or rotary factors are wrong."""

    def __init__(self, folder: Path, begin: int) -> None:
        super().__init__(folder)
        self.begin = begin
        self.read: list[int] = []

    def logits(self, token_ids: Sequence[int], positions: Sequence[int]) -> Iterator[np.ndarray]:
        self.read.append(len(token_ids))
        rows = [row for part in super().logits(token_ids, positions) for row in part]
        for position, row in zip(positions, rows, strict=True):
            yield (noise(3.0)(row) if position >= self.begin else row)[None]


def test_lengths_of_the_context(tiny_model: Path) -> None:
    build = LateNoise(tiny_model, 10_000)
    report = compare(TableEngine(tiny_model), build, CHATS, "int4", RecordingReporter(), context_tokens=400)
    assert report is not None
    assert [(each["share"], each["length"]) for each in report["contexts"]] == [
        (0.25, 100), (0.5, 200), (0.75, 300), (1.0, 400)
    ]  # fmt: skip
    assert all(0 < each["tokens"] <= 256 and each["kl_mean"] == 0.0 for each in report["contexts"])
    assert report["contexts"][3]["tokens"] > report["contexts"][0]["tokens"]
    assert report["passed"] is True
    assert build.read[len(CHATS)] == 400  # one pass for all four
    beyond = compare(TableEngine(tiny_model), build, CHATS, "int4", RecordingReporter(), context_tokens=4096)
    assert beyond is not None
    assert beyond["contexts"][-1]["length"] == 512  # the model's context


def test_build_that_is_wrong_only_late_fails(tiny_model: Path) -> None:
    report = compare(
        TableEngine(tiny_model), LateNoise(tiny_model, 320), CHATS, "int4", RecordingReporter(), context_tokens=400
    )
    assert report is not None
    assert report["kl_mean"] == 0.0
    assert [bool(each["missed"]) for each in report["contexts"]] == [False, False, False, True]
    assert "at 400 tokens" in report["missed"][0]
    assert report["passed"] is False


def test_two_sides_of_the_rotary_switch_are_read_apart(tiny_model: Path) -> None:
    build = LateNoise(tiny_model, 10_000)
    settings = {"context_tokens": 400, "rope_switch": 250}
    report = compare(TableEngine(tiny_model), build, CHATS, "int4", RecordingReporter(), **settings)
    assert report is not None
    assert len(report["contexts"]) == 4
    assert [length for length in build.read[len(CHATS) :] if length in (200, 400)] == [200, 400]


def test_stop_at_long_prompts(tiny_model: Path) -> None:
    reporter = RecordingReporter(stop_when=lambda event: isinstance(event, Phase))
    engine = TableEngine(tiny_model)
    assert compare(engine, engine, CHATS, "int4", reporter, context_tokens=400) is None


def test_limits_widen_only_where_the_model_itself_is_less_sure(tiny_model: Path) -> None:
    assert [_widened(1.2, long) for long in (1.0, 1.2, 1.44, 100.0)] == pytest.approx([1, 1, 2, 25])
    assert _widened(1.0, 2.0) == 25
    assert _widened(1.0, float("nan")) == 1
    limits = Limits(kl_mean=0.02, top1_agreement=0.95, perplexity_ratio=1.02)
    measured = {"kl_mean": 0.03, "top1_agreement": 0.92, "perplexity_ratio": 1.03}
    assert len(limits.missed(measured, "here")) == 3
    assert limits.missed(measured, "here", 2.0) == []
    assert limits.missed({**measured, "kl_mean": 0.05}, "here", 2.0) == ["mean KL 0.05 here is above 0.04"]
