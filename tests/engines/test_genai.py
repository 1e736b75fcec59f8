"""The onnxruntime-genai engine against the torch engine: same tokens, same probabilities, same stops."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime_genai as og
import pytest
import torch

from phi3tune import system
from phi3tune.engines import genai
from phi3tune.engines.base import Chunk, Request, Sampling, collect
from phi3tune.engines.genai import GenaiEngine
from phi3tune.engines.torch_engine import TorchEngine
from phi3tune.errors import UserError
from tests.fakes import tiny_phi3

pytestmark = pytest.mark.slow
PROMPT = [32010, 6324, 727, 32007, 32001]


@pytest.fixture
def engine(fp32_build: Path) -> GenaiEngine:
    return GenaiEngine(fp32_build, threads=1)


def greedy(prompt: list[int], tokens: int = 12) -> Request:
    return Request(prompt, Sampling(max_new_tokens=tokens))


def some_ids(count: int, seed: int = 0) -> list[int]:
    return random.Random(seed).choices(range(3, 32000), k=count)


def test_equals_torch_token_for_token(engine: GenaiEngine, torch_engine: TorchEngine) -> None:
    for seed, count in enumerate((3, 40, 300)):
        request = greedy(some_ids(count, seed), 40)
        ours, theirs = collect(engine.stream(request)), torch_engine.generate([request])[0]
        assert ours.token_ids == theirs.token_ids
        assert (ours.text, ours.finish_reason) == (theirs.text, theirs.finish_reason)


def test_a_seed_draws_the_same_on_both_engines(engine: GenaiEngine, torch_engine: TorchEngine) -> None:
    requests = [Request(PROMPT, Sampling(10, 0.9, 0.95, seed=seed)) for seed in (1, 1, 2)]
    answers = [answer.token_ids for answer in engine.generate(requests)]
    assert answers == [answer.token_ids for answer in torch_engine.generate(requests)]
    assert answers[0] == answers[1] != answers[2]


def test_end_tokens_stop_and_the_chat_goes_on(
    engine: GenaiEngine, fp32_build: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end token is not in the cache when the next turn starts, and that turn starts with it."""
    free = collect(engine.stream(greedy(PROMPT))).token_ids
    monkeypatch.setattr(engine.renderer, "end_ids", frozenset({free[4]}))
    first = collect(engine.stream(greedy(PROMPT)))
    assert (first.token_ids, first.finish_reason) == (free[:4], "stop")
    assert first.text == engine.renderer.decode(free[:4])
    turn = [*PROMPT, *first.token_ids, 32007, 32010, *some_ids(6), 32007, 32001]
    second = collect(engine.stream(greedy(turn)))
    assert second.usage.cached_tokens == len(PROMPT) + 4
    scratch = GenaiEngine(fp32_build, threads=1)
    monkeypatch.setattr(scratch.renderer, "end_ids", engine.renderer.end_ids)
    assert second.token_ids == collect(scratch.stream(greedy(turn))).token_ids


def test_rewind(engine: GenaiEngine) -> None:
    """Regenerating and editing rewind the cache; a rewound generator must not step twice."""
    turn = some_ids(30)
    first = collect(engine.stream(greedy(turn)))
    again = collect(engine.stream(greedy(turn)))
    assert again.token_ids == first.token_ids
    assert again.usage.cached_tokens == len(turn) - 1
    edited = [*turn[:20], *some_ids(5, seed=1)]
    second = collect(engine.stream(greedy(edited)))
    assert second.usage.cached_tokens == 20
    other = collect(engine.stream(greedy(some_ids(8, seed=2))))
    assert other.usage.cached_tokens == 0
    back = collect(engine.stream(greedy(edited)))
    assert back.usage.cached_tokens == len(edited) - 1, "another chat does not push this one out"
    assert back.token_ids == second.token_ids


def test_a_longer_chat_outgrows_what_was_reserved(engine: GenaiEngine, torch_engine: TorchEngine) -> None:
    collect(engine.stream(greedy(PROMPT, 4)))
    request = greedy([*PROMPT, *some_ids(200)], 30)
    assert collect(engine.stream(request)).token_ids == torch_engine.generate([request])[0].token_ids


def test_cancel_within_one_token(engine: GenaiEngine) -> None:
    seen: list[Chunk] = []
    for chunk in engine.stream(greedy(PROMPT, 100), lambda: len(seen) == 3):
        seen.append(chunk)
    assert [chunk.finish_reason for chunk in seen] == [None, None, None, "cancelled"]


def test_score_and_logits(engine: GenaiEngine, torch_engine: TorchEngine) -> None:
    ids = some_ids(150)
    ours, theirs = engine.score(ids), torch_engine.score(ids)
    assert (ours.logprobs.dtype, ours.argmax.dtype) == (np.float32, np.int64)
    np.testing.assert_allclose(ours.logprobs, theirs.logprobs, atol=1e-5)
    np.testing.assert_array_equal(ours.argmax, theirs.argmax)
    positions = [0, 3, 63, 64, 100, 149]
    both = [np.concatenate(list(each.logits(ids, positions))) for each in (engine, torch_engine)]
    assert both[0].shape == (6, engine.info.vocab_size)
    np.testing.assert_allclose(*both, atol=1e-5)
    assert len(engine.score(ids[:1]).logprobs) == 0
    assert len(engine.score(ids[:65]).logprobs) == 64


def test_longrope(longrope_model: Path, build_fp32: Callable[[Path, Path], Path], tmp_path: Path) -> None:
    """Keys made with the short factors do not fit a sequence that has outgrown them."""
    engine = GenaiEngine(build_fp32(longrope_model, tmp_path), threads=1)
    reference = TorchEngine(longrope_model, dtype=torch.float32, threads=1)
    prompt = some_ids(24)
    for ids in (prompt, prompt[:10], some_ids(60)):  # crosses 32 tokens while decoding; goes back; starts beyond
        ours, theirs = collect(engine.stream(greedy(ids, 20))), collect(reference.stream(greedy(ids, 20)))
        assert ours.token_ids == theirs.token_ids
        assert ours.usage.cached_tokens == 0
    for count in (20, 200):
        ids = some_ids(count)
        np.testing.assert_allclose(engine.score(ids).logprobs, reference.score(ids).logprobs, atol=1e-4)


def test_sliding_window(build_fp32: Callable[[Path, Path], Path], tmp_path: Path) -> None:
    folder = tiny_phi3(tmp_path / "model", sliding_window=16)
    engine = GenaiEngine(build_fp32(folder, tmp_path), threads=1)
    reference = TorchEngine(folder, dtype=torch.float32, threads=1)
    prompt = some_ids(100)
    edited = [*prompt[:60], *some_ids(5, seed=1)]  # rewinds past the window
    for ids in (prompt, edited):
        assert collect(engine.stream(greedy(ids, 20))).token_ids == collect(reference.stream(greedy(ids, 20))).token_ids
    np.testing.assert_allclose(engine.score(prompt).logprobs, reference.score(prompt).logprobs, atol=1e-4)


def test_limits(engine: GenaiEngine) -> None:
    context = engine.info.context_length
    assert len(collect(engine.stream(greedy(some_ids(context - 3), 50))).token_ids) == 3
    with pytest.raises(UserError, match=f"context is {context}"):
        engine.stream(greedy(some_ids(context)))
    with pytest.raises(UserError, match="does not fit"):
        engine.score(some_ids(context + 1))


def test_threads_follow_the_cores(fp32_build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Left to itself, the runtime uses one of two cores."""
    overlays = []

    class Config(og.Config):
        def overlay(self, text: str) -> None:
            overlays.append(json.loads(text))
            super().overlay(text)

    monkeypatch.setattr(og, "Config", Config)
    monkeypatch.setattr(system, "cores", lambda: 3)
    GenaiEngine(fp32_build)  # so small that threads do not help
    monkeypatch.setattr(genai, "_SMALL", 0)
    GenaiEngine(fp32_build)
    GenaiEngine(fp32_build, threads=2)
    sessions = [overlay["model"]["decoder"]["session_options"] for overlay in overlays]
    assert sessions == [{"intra_op_num_threads": count} for count in (1, 3, 2)]


def test_info(engine: GenaiEngine, fp32_build: Path) -> None:
    info = engine.info
    assert (info.kind, info.precision, info.device, info.context_length) == ("onnxruntime-genai", "fp32", "cpu", 512)
    assert info.size_bytes == sum((fp32_build / name).stat().st_size for name in ("model.onnx", "model.onnx.data"))


def test_damaged_build(fp32_build: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(fp32_build, tmp_path / "fp32")
    (folder / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(UserError, match="build it again"):
        GenaiEngine(folder)
