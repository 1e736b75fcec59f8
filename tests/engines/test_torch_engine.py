"""The torch engine against transformers: same tokens, same probabilities, whatever was kept from earlier turns."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Phi3ForCausalLM

from phi3tune.engines import torch_model
from phi3tune.engines.base import Chunk, Completion, Request, Sampling, collect
from phi3tune.engines.torch_engine import TorchEngine, choose_dtype
from phi3tune.engines.torch_model import inference_dtype
from phi3tune.errors import UserError
from phi3tune.system import Memory
from tests.fakes import tiny_phi3

PROMPT = [32010, 6324, 727, 32007, 32001]


def tiny(folder: Path, adapters: dict[str, Path] | None = None) -> TorchEngine:
    """One thread: more only wait for each other on a model this small."""
    return TorchEngine(folder, adapters, dtype=torch.float32, threads=1)


def greedy(prompt: list[int], tokens: int = 12) -> Request:
    return Request(prompt, Sampling(max_new_tokens=tokens))


def some_ids(count: int, seed: int = 0) -> list[int]:
    return random.Random(seed).choices(range(3, 32000), k=count)


def reference(folder: Path, prompt: list[int], tokens: int) -> list[int]:
    """What transformers generates greedily, end tokens ignored."""
    model = Phi3ForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.generation_config.eos_token_id = None
    ids = model.generate(torch.tensor([prompt]), max_new_tokens=tokens, do_sample=False, pad_token_id=0)
    return ids[0, len(prompt) :].tolist()


def fresh(engine: TorchEngine) -> TorchEngine:
    """The same weights with nothing kept."""
    view = engine.with_adapter(None)
    view.kept = engine._new_kept()
    return view


def test_greedy_equals_transformers(torch_engine: TorchEngine, tiny_model: Path) -> None:
    prompt = some_ids(40)
    answer = collect(fresh(torch_engine).stream(greedy(prompt, 30)))
    assert list(answer.token_ids) == reference(tiny_model, prompt, 30)
    assert answer.finish_reason == "length"
    assert answer.text == torch_engine.renderer.decode(answer.token_ids)


def test_usage(torch_engine: TorchEngine) -> None:
    chunks = list(fresh(torch_engine).stream(greedy(PROMPT, 5)))
    assert [chunk.finish_reason for chunk in chunks] == [None] * 5 + ["length"]
    assert [len(chunk.token_ids) for chunk in chunks] == [1] * 5 + [0]
    usage = chunks[-1].usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens) == (5, 0, 5)
    assert usage.first_token_seconds > 0
    assert usage.tokens_per_second > 0


def test_next_turn_pays_for_new_tokens_only(torch_engine: TorchEngine) -> None:
    engine = fresh(torch_engine)
    first = collect(engine.stream(greedy(PROMPT)))
    turn = [*PROMPT, *first.token_ids, 32007, *some_ids(6), 32001]
    second = collect(engine.stream(greedy(turn)))
    assert second.usage.cached_tokens == len(PROMPT) + len(first.token_ids) - 1  # the last token was never read
    assert second.token_ids == collect(fresh(engine).stream(greedy(turn))).token_ids
    again = collect(engine.stream(greedy(turn)))  # regenerate
    assert again.token_ids == second.token_ids
    assert again.usage.cached_tokens == len(turn) - 1
    edited = [*turn[:7], *some_ids(4, seed=1)]
    assert collect(engine.stream(greedy(edited))).usage.cached_tokens == 7
    assert collect(engine.stream(greedy(edited))).token_ids == collect(fresh(engine).stream(greedy(edited))).token_ids


def test_stops_at_every_end_token(torch_engine: TorchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    free = collect(fresh(torch_engine).stream(greedy(PROMPT)))
    for place, token in enumerate(free.token_ids):
        if token in free.token_ids[:place]:
            continue
        monkeypatch.setattr(torch_engine.renderer, "end_ids", frozenset({32000, token}))
        answers = [collect(fresh(torch_engine).stream(greedy(PROMPT))), torch_engine.generate([greedy(PROMPT)])[0]]
        for answer in answers:
            assert answer.finish_reason == "stop"
            assert answer.token_ids == free.token_ids[:place]
            assert answer.text == torch_engine.renderer.decode(free.token_ids[:place])
            assert answer.usage.completion_tokens == place


def test_cancel_within_one_token(torch_engine: TorchEngine) -> None:
    seen: list[Chunk] = []
    engine = fresh(torch_engine)
    for chunk in engine.stream(greedy(PROMPT, 100), lambda: len(seen) == 3):
        seen.append(chunk)
    assert [chunk.finish_reason for chunk in seen] == [None, None, None, "cancelled"]
    assert seen[-1].usage is not None
    assert seen[-1].usage.completion_tokens == 3
    assert collect(engine.stream(greedy(PROMPT))).token_ids[:3] == tuple(i for chunk in seen for i in chunk.token_ids)


def test_cancel_while_reading_a_long_prompt(torch_engine: TorchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phi3tune.engines.decoding.PREFILL", 16)
    asked = []
    engine, prompt = fresh(torch_engine), some_ids(64)
    (last,) = engine.stream(greedy(prompt), lambda: asked.append(1) or len(asked) > 2)
    assert last.finish_reason == "cancelled"
    after = collect(engine.stream(greedy(prompt)))
    assert after.usage.cached_tokens == 32
    assert after.token_ids == collect(fresh(engine).stream(greedy(prompt))).token_ids


def test_abandoned_stream_leaves_a_usable_engine(torch_engine: TorchEngine) -> None:
    engine = fresh(torch_engine)
    stream = engine.stream(greedy(PROMPT))
    ids = next(stream).token_ids + next(stream).token_ids
    stream.close()
    assert collect(engine.stream(greedy(PROMPT))).token_ids[:2] == ids


def test_batched_equals_sequential(torch_engine: TorchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    free = [collect(torch_engine.stream(greedy(some_ids(10), 20))).token_ids[9]]
    monkeypatch.setattr(torch_engine.renderer, "end_ids", frozenset(free))  # one row ends early
    requests = [greedy(some_ids(count, seed=count), limit) for count, limit in ((3, 20), (41, 5), (17, 1), (30, 20))]
    requests.insert(2, greedy(some_ids(10), 20))
    batched = torch_engine.generate(requests)
    sequential = [collect(fresh(torch_engine).stream(request)) for request in requests]
    timeless = [
        [replace(a, usage=replace(a.usage, first_token_seconds=0, tokens_per_second=0)) for a in answers]
        for answers in (batched, sequential)
    ]
    assert timeless[0] == timeless[1]
    assert batched[2].finish_reason == "stop"


def test_batches_are_cut_to_the_memory(torch_engine: TorchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = [greedy(some_ids(5, seed=seed), 4) for seed in range(5)]
    whole = [answer.token_ids for answer in torch_engine.generate(requests)]
    sizes = []
    batch = torch_engine._batch
    monkeypatch.setattr(torch_engine, "_batch", lambda some, limits: sizes.append(len(some)) or batch(some, limits))
    monkeypatch.setattr(torch_engine._model, "free_memory", lambda: 4 * 18 * torch_engine._model.kv_bytes)
    assert [answer.token_ids for answer in torch_engine.generate(requests)] == whole
    assert sizes == [2, 2, 1]


def test_sampling(torch_engine: TorchEngine) -> None:
    def answer(prompt: list[int], **changes: float) -> Completion:
        return collect(fresh(torch_engine).stream(Request(prompt, Sampling(8, **{"temperature": 1.0, **changes}))))

    assert answer(PROMPT, seed=3).token_ids == answer(PROMPT, seed=3).token_ids
    assert answer(PROMPT, seed=3).token_ids != answer(PROMPT, seed=4).token_ids
    likeliest = collect(fresh(torch_engine).stream(greedy(PROMPT, 8))).token_ids
    assert answer(PROMPT, top_p=1e-6).token_ids == likeliest
    requests = [Request(some_ids(n), Sampling(6, 0.8, 0.9, seed=n)) for n in (4, 9)]
    alone = [collect(fresh(torch_engine).stream(request)).token_ids for request in requests]
    assert [answer.token_ids for answer in torch_engine.generate(requests)] == alone


def test_score_and_logits(torch_engine: TorchEngine, tiny_model: Path) -> None:
    ids = some_ids(150)
    with torch.no_grad():
        logits = Phi3ForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)(torch.tensor([ids])).logits[0]
    expected = logits[:-1].log_softmax(-1).gather(-1, torch.tensor(ids)[1:, None])[:, 0]
    scores = torch_engine.score(ids)
    assert scores.logprobs.dtype == np.float32
    np.testing.assert_allclose(scores.logprobs, expected.numpy(), atol=1e-5)
    np.testing.assert_array_equal(scores.argmax, logits[:-1].argmax(-1).numpy())
    positions = [*range(0, 149, 2), 149]
    chunks = list(torch_engine.logits(ids, positions))
    assert max(len(chunk) for chunk in chunks) <= 64
    np.testing.assert_allclose(np.concatenate(chunks), logits[positions].numpy(), atol=1e-5)
    assert len(torch_engine.score(ids[:1]).logprobs) == 0


def test_adapters_share_the_base(torch_engine: TorchEngine, tiny_model: Path, adapters: dict[str, Path]) -> None:
    base = collect(fresh(torch_engine).stream(greedy(PROMPT)))
    assert list(base.token_ids) == reference(tiny_model, PROMPT, 12)
    answers = {}
    for name, folder in adapters.items():
        view = torch_engine.with_adapter(name)
        assert view._model is torch_engine._model
        assert view.info.name == name
        assert view.info.size_bytes > torch_engine.info.size_bytes
        answers[name] = collect(view.stream(greedy(PROMPT))).token_ids
        alone = tiny(tiny_model, {"a": folder}).with_adapter("a")
        assert answers[name] == collect(alone.stream(greedy(PROMPT))).token_ids
    assert len({base.token_ids, *answers.values()}) == 3
    # the kept chats do not mix
    assert collect(torch_engine.with_adapter("run.one").stream(greedy(PROMPT))).token_ids == answers["run.one"]
    assert collect(torch_engine.stream(greedy(PROMPT))).token_ids == base.token_ids


def test_adapters_come_and_go(tiny_model: Path, adapters: dict[str, Path]) -> None:
    engine = tiny(tiny_model)
    before = collect(engine.stream(greedy(PROMPT))).token_ids
    engine.attach("x", adapters["run.one"])
    tuned = collect(engine.with_adapter("x").stream(greedy(PROMPT))).token_ids
    engine.attach("y", adapters["run.two"])
    engine.detach("x")
    assert engine.adapters == ["y"]
    with pytest.raises(KeyError):
        engine.with_adapter("x")
    assert collect(engine.with_adapter("y").stream(greedy(PROMPT))).token_ids != tuned
    assert collect(fresh(engine).stream(greedy(PROMPT))).token_ids == before
    engine.detach("y")
    assert collect(fresh(engine).stream(greedy(PROMPT))).token_ids == before
    engine.attach("x", adapters["run.one"])
    assert collect(engine.with_adapter("x").stream(greedy(PROMPT))).token_ids == tuned


def test_adapter_of_another_base_is_refused(tiny_model: Path, adapters: dict[str, Path], tmp_path: Path) -> None:
    wide = tiny_phi3(tmp_path / "wide", hidden_size=128)
    engine = tiny(wide)
    before = collect(fresh(engine).stream(greedy(PROMPT))).token_ids
    with pytest.raises(UserError, match="does not fit the base"):
        engine.attach("x", adapters["run.one"])
    assert collect(fresh(engine).stream(greedy(PROMPT))).token_ids == before


def test_sliding_window(tmp_path: Path) -> None:
    folder = tiny_phi3(tmp_path / "sliding", sliding_window=16)
    engine, prompt = tiny(folder), some_ids(60)
    answer = collect(engine.stream(greedy(prompt, 20)))
    assert list(answer.token_ids) == reference(folder, prompt, 20)
    edited = [*prompt[:40], *some_ids(10, seed=2)]
    second = collect(engine.stream(greedy(edited, 20)))
    assert second.usage.cached_tokens == 40
    assert list(second.token_ids) == reference(folder, edited, 20)
    assert [a.token_ids for a in engine.generate([greedy(prompt, 20), greedy(edited, 20)])] == [
        answer.token_ids,
        second.token_ids,
    ]


def test_longrope_reads_anew_where_the_factors_change(longrope_model: Path) -> None:
    folder = longrope_model
    engine, prompt = tiny(folder), some_ids(24)
    answer = collect(engine.stream(greedy(prompt, 20)))  # crosses 32 while decoding
    assert list(answer.token_ids) == reference(folder, prompt, 20)
    assert engine.generate([greedy(prompt, 20)])[0].token_ids == answer.token_ids
    back = collect(engine.stream(greedy(prompt[:20], 5)))  # the kept keys have the long factors
    assert back.usage.cached_tokens == 0
    assert list(back.token_ids) == reference(folder, prompt[:20], 5)
    long = [*prompt, *answer.token_ids, *some_ids(5)]
    collect(engine.stream(greedy(long, 5)))
    again = collect(engine.stream(greedy([*long, 5, 6], 5)))
    assert again.usage.cached_tokens > 32
    assert list(again.token_ids) == reference(folder, [*long, 5, 6], 5)


def test_context_limits(torch_engine: TorchEngine) -> None:
    context = torch_engine.info.context_length
    answer = collect(torch_engine.stream(greedy(some_ids(context - 3), 50)))
    assert len(answer.token_ids) == 3
    for call in (torch_engine.stream, lambda request: torch_engine.generate([request])):
        with pytest.raises(UserError, match=f"context is {context}"):
            call(greedy(some_ids(context)))
    with pytest.raises(UserError, match="does not fit"):
        torch_engine.score(some_ids(context + 1))


def test_missing_weights_are_not_made_up(tiny_model: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(tiny_model, tmp_path / "damaged")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.down_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="down_proj"):
        tiny(folder)
    (folder / "model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(UserError, match="cannot be"):
        tiny(folder)
    with pytest.raises(UserError, match="cannot be read as safetensors"):
        TorchEngine(folder)


def test_auto_map_is_not_run(tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "auto")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModelForCausalLM": "canary.Model"}}))
    (folder / "canary.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    tiny(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("abilities", "expected"),
    [
        ({}, torch.float32),
        ({"avx2": True, "avx512_f": True}, torch.float32),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
    ],
)
def test_dtype_follows_the_cpu(
    abilities: dict[str, bool], expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: abilities)
    assert choose_dtype("cpu") == expected
    monkeypatch.setattr(torch_model.system, "memory", lambda: Memory(total=100, available=1))
    cpu = torch.device("cpu")
    assert inference_dtype(cpu, 50) == torch.float32
    assert inference_dtype(cpu, 51) == expected
