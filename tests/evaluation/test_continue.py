"""An evaluation that was interrupted goes on, and ends as if it never had been."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from phi3tune.config import EvalConfig
from phi3tune.engines.base import Completion, Request, Scores
from phi3tune.engines.torch_engine import TorchEngine
from phi3tune.evaluation import evaluate, load_report, rows, scoring
from phi3tune.events import Progress
from phi3tune.paths import Workspace
from tests.fake_runs import chats
from tests.fakes import RecordingReporter, tiny_phi3

pytestmark = pytest.mark.slow

TIMINGS = {"answer_seconds", "first_token_seconds", "seconds", "path"}
Start = Callable[..., dict[str, Any]]


class CutShortError(Exception):
    """What stands for the death of the worker."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The prompts that engines were asked to answer; batches are of 4 rows."""
    monkeypatch.setattr(scoring, "BATCH", 4)
    prompts: list[list[int]] = []
    original = TorchEngine.generate

    def record(self: TorchEngine, requests: Sequence[Request]) -> list[Completion]:
        prompts.extend(list(request.prompt_ids) for request in requests)
        return original(self, requests)

    monkeypatch.setattr(TorchEngine, "generate", record)
    return prompts


@pytest.fixture
def start(workspace: Workspace, tiny_model: Path, tmp_path: Path) -> Start:
    """`start(folder, ...)` evaluates two models on ten rows each."""
    path = chats(tmp_path / "chats.jsonl", 100)
    other = tiny_phi3(tmp_path / "other", seed=1)

    def run(name: str, reporter: RecordingReporter | None = None, **settings: Any) -> dict[str, Any]:
        given = {"models": [str(tiny_model), str(other)], "dataset": str(path), "max_new_tokens": 4, "resamples": 1000}
        return evaluate(
            EvalConfig(**{**given, **settings}), tmp_path / name, workspace, reporter or RecordingReporter()
        )

    return run


def without_timings(report: dict[str, Any]) -> dict[str, Any]:
    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: clean(each) for name, each in value.items() if name not in TIMINGS}
        return [clean(each) for each in value] if isinstance(value, list) else value

    found: dict[str, Any] = clean(report)
    return found


def stop_after(rows: int) -> RecordingReporter:
    return RecordingReporter(stop_when=lambda event: isinstance(event, Progress) and event.done >= rows)


@pytest.mark.parametrize("done", [4, 12])
def test_stopped_evaluation_goes_on(start: Start, tmp_path: Path, asked: list[list[int]], done: int) -> None:
    whole = start("whole")
    every = list(asked)
    asked.clear()
    assert start("again", stop_after(done)) == {"status": "stopped"}
    first = len(asked)
    reporter = RecordingReporter()
    result = start("again", reporter)
    assert asked == every
    assert first < len(every)
    assert without_timings(result) == without_timings(whole)
    assert without_timings({"rows": rows(tmp_path / "again")}) == without_timings({"rows": rows(tmp_path / "whole")})
    assert load_report(tmp_path / "again")["rows"] == 10
    assert reporter.of(Progress)[-1].done == reporter.of(Progress)[-1].total == 20


def test_killed_evaluation_repeats_at_most_one_batch(
    start: Start, asked: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = start("whole")
    every = list(asked)
    asked.clear()
    original = TorchEngine.score
    scored = []

    def die(self: TorchEngine, token_ids: Sequence[int]) -> Scores:
        scored.append(token_ids)
        if len(scored) == 7:  # within the second batch, whose rows have been answered
            raise CutShortError
        return original(self, token_ids)

    monkeypatch.setattr(TorchEngine, "score", die)
    with pytest.raises(CutShortError):
        start("again")
    result = start("again")
    assert asked == [*every[:8], *every[4:]]
    assert without_timings(result) == without_timings(whole)


def test_finished_answers_are_not_asked_again(
    start: Start, asked: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another metric or seed is about the same answers: no model is even loaded."""
    start("report")
    asked.clear()
    monkeypatch.setattr(scoring, "opened", lambda *_, **__: pytest.fail("a model is loaded"))
    assert start("report", metric="token_f1", eval_seed=3)["metric"] == "token_f1"
    assert asked == []


@pytest.mark.parametrize("changes", [{"max_new_tokens": 3}, {"split_seed": 1}])
def test_answers_to_another_question_are_not_taken(
    start: Start, asked: list[list[int]], changes: dict[str, Any]
) -> None:
    start("report")
    asked.clear()
    fresh = without_timings(start("fresh", **changes))
    count = len(asked)
    assert without_timings(start("report", **changes)) == fresh
    assert len(asked) == 2 * count


def test_a_model_that_changed_answers_anew(
    start: Start, tiny_model: Path, tmp_path: Path, asked: list[list[int]]
) -> None:
    start("report")
    asked.clear()
    tiny_phi3(tmp_path / "other", seed=2)
    start("report")
    assert len(asked) == 10
