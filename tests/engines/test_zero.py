"""The engines of a Space on ZeroGPU, with a stand-in for the package `spaces` that keeps to its manners."""

from __future__ import annotations

import importlib
import pickle
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from phi3tune.chat import Renderer
from phi3tune.engines import main_process, pool, zero
from phi3tune.engines.base import Completion, EngineError, Request, Sampling, collect
from phi3tune.engines.models import ModelRef, resolve
from phi3tune.engines.pool import Pool
from phi3tune.errors import UserError
from phi3tune.paths import NANO, Workspace

ADDRESS = {"role": "user", "content": "What is the capital of France?"}


class FakeError(Exception):
    """As Gradio's."""

    def __init__(self, title: str, message: str) -> None:
        super().__init__(message)
        self.title, self.message = title, message


@dataclass
class FakeSpaces:
    """What of `spaces` 0.51.3 shows on the outside: a function's arguments and what it yields are pickled, of an
    exception only the class's name is told, a reader who leaves ends the function, and a visitor's time is limited."""

    seconds: list[int] = field(default_factory=list)
    left: int = 0
    quota: int = 1000

    def GPU(self, *, duration: Callable[..., int]) -> Callable[[Any], Any]:  # noqa: N802
        def decorate(work: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
            def borrowing(*given: Any) -> Iterator[Any]:
                if duration(*given) > self.quota:
                    raise FakeError("ZeroGPU quota exceeded", f"{duration(*given)}s requested vs. {self.quota}s left")
                self.seconds.append(duration(*given))
                said = work(*pickle.loads(pickle.dumps(given)))
                try:
                    for item in said:
                        yield pickle.loads(pickle.dumps(item))
                except GeneratorExit:
                    self.left += 1
                    said.close()  # type: ignore[attr-defined]
                    raise
                except Exception as error:
                    raise FakeError("ZeroGPU worker error", type(error).__name__) from None

            return borrowing

        return decorate


@pytest.fixture(scope="module")
def spaces() -> Iterator[FakeSpaces]:
    """`main_process` as it is imported on ZeroGPU."""
    fake, module = FakeSpaces(), ModuleType("spaces")
    module.GPU = fake.GPU  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPACES_ZERO_GPU", "true")
        patch.setitem(sys.modules, "spaces", module)
        importlib.reload(main_process)
        yield fake
    importlib.reload(main_process)


@pytest.fixture(scope="module")
def engines(spaces: FakeSpaces, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    main_process.prepare(Workspace(tmp_path_factory.mktemp("workspace")))
    made = main_process.MainProcess()
    yield made
    made.close()


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    return resolve("phi3-nano", Workspace(tmp_path_factory.mktemp("workspace")))


@pytest.fixture(scope="module")
def request_(nano: ModelRef) -> Request:
    return Request(Renderer.load(NANO).prompt([ADDRESS]), Sampling(max_new_tokens=24))  # type: ignore[list-item]


def said(engines: Pool, ref: ModelRef, request: Request) -> Completion:
    return collect(engines.stream(ref, request))


def test_elsewhere_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPACES_ZERO_GPU", raising=False)

    def work() -> int:
        return 1

    assert zero.on_gpu(lambda: 5)(work) is work
    zero.refuse_training()


@pytest.mark.parametrize(("value", "is_it"), [("true", True), ("1", True), ("false", False), ("", False)])
def test_zero_gpu_is_told_by_the_variable_that_spaces_reads(
    value: str, is_it: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPACES_ZERO_GPU", value)
    assert zero.is_zero_gpu() is is_it


def test_the_shared_pool_is_the_main_process(spaces: FakeSpaces, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_shared", None)
    found = pool.shared()
    found.close()
    assert type(found) is main_process.MainProcess
    assert pool.shared() is found
    with pytest.raises(UserError, match="training takes minutes"):
        zero.refuse_training()


def test_the_models_of_visitors_are_prepared_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PHI3TUNE_MODE", "hosted")
    monkeypatch.setenv("PHI3TUNE_HOSTED_MODELS", "microsoft/Phi-3-mini-4k-instruct")
    prepared: list[str] = []
    monkeypatch.setattr(main_process.models, "resolve", lambda name, _: prepared.append(name))
    monkeypatch.setattr(main_process, "Loaded", lambda ref: ref)
    monkeypatch.setattr(main_process, "_known", str)
    monkeypatch.setattr(main_process, "_prepared", {})
    main_process.prepare(Workspace(tmp_path))
    assert prepared == ["phi3-nano", "microsoft/Phi-3-mini-4k-instruct"]


@pytest.mark.slow
def test_a_greedy_answer_is_the_same_as_that_of_the_pool(engines: Pool, nano: ModelRef, request_: Request) -> None:
    ordinary = Pool()
    try:
        theirs = said(ordinary, nano, request_)
        assert engines.info(nano) == ordinary.info(nano)
    finally:
        ordinary.close()
    ours = said(engines, nano, request_)
    assert (ours.text, ours.token_ids, ours.finish_reason) == (theirs.text, theirs.token_ids, theirs.finish_reason)
    assert ours.text


def test_what_was_prepared_is_ready_and_borrows_nothing_to_tell_its_facts(
    engines: Pool, spaces: FakeSpaces, nano: ModelRef
) -> None:
    before = list(spaces.seconds)
    assert engines.state(nano) == "ready"
    assert engines.info(nano).name == "phi3-nano"
    assert spaces.seconds == before


def test_runs_answer_through_their_base(engines: Pool, tiny_model: Path, adapters: dict[str, Path]) -> None:
    base = ModelRef(str(tiny_model), "base", "torch", tiny_model)
    tuned = [ModelRef(name, name, "torch", tiny_model, folder) for name, folder in adapters.items()]
    assert engines.state(base) == "not loaded"
    request = Request([32010, 6324, 727, 32007, 32001], Sampling(max_new_tokens=8))
    answers = {said(engines, ref, request).token_ids for ref in (base, *tuned)}
    assert len(answers) == 3
    assert [engines.state(ref) for ref in (base, *tuned)] == ["ready"] * 3
    assert [engines.info(ref).name for ref in tuned] == list(adapters)
    assert engines.unload(base)


def test_facts_of_a_model_that_has_not_answered_are_borrowed_once(
    engines: Pool, spaces: FakeSpaces, tiny_model: Path
) -> None:
    ref = ModelRef(str(tiny_model), "another label", "torch", tiny_model)
    before = len(spaces.seconds)
    assert engines.info(ref).name == engines.info(ref).name == "another label"
    assert len(spaces.seconds) == before + 1


def test_the_time_that_is_borrowed_grows_with_the_answer_up_to_a_limit(
    engines: Pool, spaces: FakeSpaces, nano: ModelRef, request_: Request
) -> None:
    for tokens in (15, 300, 100_000):
        asked = replace(request_, sampling=Sampling(max_new_tokens=tokens))
        next(iter(engines.stream(nano, asked)))
    assert spaces.seconds[-3:] == [21, 40, 120]


def test_a_mistake_arrives_as_its_sentence(engines: Pool, nano: ModelRef) -> None:
    with pytest.raises(UserError, match="the model's context is"):
        said(engines, nano, Request([1] * 5000))
    assert engines.busy == 0


def test_a_refusal_of_zero_gpu_arrives_as_its_sentence(
    engines: Pool, spaces: FakeSpaces, nano: ModelRef, request_: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spaces, "quota", 5)
    with pytest.raises(EngineError, match="quota exceeded: 21s requested vs"):
        said(engines, nano, request_)
    assert engines.busy == 0


def test_a_fault_in_the_fork_is_named(
    engines: Pool, nano: ModelRef, request_: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main_process.Loaded, "steps", lambda *_: 1 / 0)
    with pytest.raises(EngineError, match="ZeroGPU worker error: ZeroDivisionError"):
        said(engines, nano, request_)


def test_a_cancelled_answer_ends_and_lets_go_of_the_gpu(
    engines: Pool, spaces: FakeSpaces, nano: ModelRef, request_: Request
) -> None:
    left, heard = spaces.left, []
    for chunk in engines.stream(nano, request_, lambda: len(heard) == 1):
        heard.append(chunk)
        assert engines.busy == 1
    assert [chunk.finish_reason for chunk in heard] == [None, "cancelled"]
    usage = heard[-1].usage
    assert usage is not None and (usage.prompt_tokens, usage.completion_tokens) == (len(request_.prompt_ids), 1)
    assert spaces.left == left + 1
    assert engines.busy == 0


def test_what_was_cancelled_before_borrows_nothing(
    engines: Pool, spaces: FakeSpaces, nano: ModelRef, request_: Request
) -> None:
    before = list(spaces.seconds)
    assert collect(engines.stream(nano, request_, lambda: True)).finish_reason == "cancelled"
    assert spaces.seconds == before
