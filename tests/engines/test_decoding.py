"""The decode loop on a model of random logits: stop texts, log-probabilities, penalties, pauses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from phi3tune.chat import Renderer
from phi3tune.engines.base import Chunk, Completion, Request, Sampling, collect, never
from phi3tune.engines.decoding import PREFILL, Answer, Clock, Context, chunks, decode
from phi3tune.errors import UserError
from phi3tune.paths import NANO

VOCABULARY = 4096


class RandomContext(Context):
    """Logits follow from the last token alone, and do not ask for an end token."""

    def __init__(self, ends: Sequence[int] = (), capacity: int = 1000) -> None:
        super().__init__(rope_switch=None, capacity=capacity)
        self.logits: list[np.ndarray] = []
        self.reads: list[int] = []
        self._ends = list(ends)

    def _append(self, ids: Sequence[int]) -> np.ndarray:
        self.reads.append(len(ids))
        logits = np.random.default_rng(ids[-1]).normal(size=VOCABULARY).astype(np.float32)
        logits[self._ends] = -100
        self.logits.append(logits)
        return logits

    def _crop(self, length: int) -> None:
        """Nothing is kept but the ids."""


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer.load(NANO)


def ask(
    renderer: Renderer, sampling: Sampling, prompt: Sequence[int] = (300,)
) -> tuple[Completion, list[Chunk], RandomContext]:
    context, request = RandomContext(sorted(renderer.end_ids)), Request(prompt, sampling)
    answer = Answer(request, renderer, sampling.max_new_tokens)
    said = list(chunks(decode(context, request, answer, never)))
    return collect(said), said, context


def test_stop_texts(renderer: Renderer) -> None:
    whole, _, _ = ask(renderer, Sampling(40))
    for start in range(1, len(whole.text) - 12):
        stop = whole.text[start : start + 12]  # lies across tokens
        place = whole.text.index(stop)
        answer, said, _ = ask(renderer, Sampling(40, stop=("not in it", stop)))
        assert (answer.text, answer.finish_reason) == (whole.text[:place], "stop")
        assert answer.token_ids == whole.token_ids[: len(answer.token_ids)]
        assert stop in renderer.decode(answer.token_ids)
        assert stop not in renderer.decode(answer.token_ids[:-1])
        assert "".join(chunk.text for chunk in said) == answer.text


def test_what_only_began_like_a_stop_text_is_let_go(renderer: Renderer) -> None:
    whole, _, _ = ask(renderer, Sampling(30))
    for sampling in (Sampling(30, stop=(whole.text[-6:] + "!!", whole.text[4:9] + "!!")), Sampling(30, stop=("",))):
        answer, _, _ = ask(renderer, sampling)
        assert (answer.text, answer.finish_reason) == (whole.text, "length")


def test_logprobs_are_those_of_the_model(renderer: Renderer) -> None:
    sampling = Sampling(12, temperature=1.0, top_k=50, presence_penalty=1.0, logprobs=3)
    answer, said, context = ask(renderer, sampling)
    assert len(answer.logprobs) == 12
    assert all(len(chunk.logprobs) == len(chunk.token_ids) for chunk in said)
    for token, told, logits in zip(answer.token_ids, answer.logprobs, context.logits, strict=True):
        expected = logits - np.log(np.exp(logits.astype(np.float64)).sum())
        assert told.token_id == token
        assert told.logprob == pytest.approx(expected[token], abs=1e-5)
        assert [place for place, _ in told.top] == np.argsort(-logits)[:3].tolist()
        assert all(value == pytest.approx(expected[place], abs=1e-5) for place, value in told.top)
    assert ask(renderer, Sampling(3, logprobs=0))[0].logprobs[0].top == ()


def test_penalties_and_bias(renderer: Renderer) -> None:
    """Logits follow from the last token, so that an unpenalised answer soon turns in a circle."""
    sampling = Sampling(200, logit_bias=dict.fromkeys(range(20, VOCABULARY), -1e4))
    circle = ask(renderer, sampling)[0].token_ids
    assert max(circle) < 20
    assert len(set(circle)) < 20
    for penalty in ({"presence_penalty": 50.0}, {"frequency_penalty": 50.0}, {"repetition_penalty": 1e9}):
        few = Sampling(16, logit_bias=dict.fromkeys(range(20, VOCABULARY), -1e4), **penalty)
        said = ask(renderer, few, prompt=(300, 7))[0].token_ids
        assert len(set(said)) == 16
        assert ("repetition_penalty" in penalty) == (7 not in said), "the prompt counts for repetition only"
    frequent = Sampling(64, logit_bias=dict.fromkeys(range(20, VOCABULARY), -1e4), frequency_penalty=50.0)
    counts = np.bincount(ask(renderer, frequent)[0].token_ids)
    assert counts[counts > 0].max() - counts[counts > 0].min() <= 1
    for token in (VOCABULARY, -1):
        with pytest.raises(UserError, match=f"beyond the model's {VOCABULARY}"):
            ask(renderer, Sampling(2, logit_bias={token: 1.0}))


def test_a_long_prompt_is_read_in_parts(renderer: Renderer) -> None:
    prompt = [300] * (2 * PREFILL + 5)
    context, request = RandomContext(), Request(prompt, Sampling(2))
    steps = decode(context, request, Answer(request, renderer, 2), never)
    assert [next(steps), next(steps)] == [None, None]
    assert [chunk.finish_reason for chunk in chunks(steps)] == [None, None, "length"]
    assert context.reads == [PREFILL, PREFILL, 5, 1]


def test_times_of_short_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(100))
    monkeypatch.setattr("time.perf_counter", lambda: next(now))
    clock, rates = Clock(), []
    for _ in range(7):
        clock.tick()
        rates.append(clock.usage(1, 0, 1).tokens_per_second)
    assert rates == [0, 0, 0, 0, 1, 1, 1]
    assert clock.usage(1, 0, 1).first_token_seconds == 1


def test_what_is_shared_and_forgotten() -> None:
    context = RandomContext()
    assert context.shared([1, 2]) == 0
    context.ids = [1, 2, 3, 4]
    prompts = ([1, 2, 3, 4, 5], [1, 2, 3, 4], [1, 2, 9, 4, 5], [9], [1])
    assert [context.shared(prompt) for prompt in prompts] == [4, 3, 2, 0, 0]
    for length in (4, 2, 0):
        context.rewind(length)
        assert context.ids == [1, 2, 3, 4][:length]
