from pathlib import Path

import pytest

from phi3tune.chat import Renderer
from phi3tune.config import TrainConfig
from phi3tune.data import Conversation
from phi3tune.errors import UserError
from phi3tune.training.settings import Intervals, learnable, learning_rate, micro_batch


@pytest.fixture(scope="module")
def renderer(tiny_model: Path) -> Renderer:
    return Renderer.load(tiny_model)


def chat(row: int, prompt_words: int, answer: str = "It is on.") -> Conversation:
    messages = ({"role": "user", "content": "lamp " * prompt_words}, {"role": "assistant", "content": answer})
    return Conversation(messages, row, "chats.jsonl")


def test_learning_rate_follows_the_width():
    config = TrainConfig(dataset="d")
    assert learning_rate(config, 3072) == pytest.approx(3e-4)
    assert learning_rate(config, 256) == pytest.approx(3.6e-3)
    assert learning_rate(TrainConfig(dataset="d", method="full"), 3072) == pytest.approx(3e-5)
    assert learning_rate(TrainConfig(dataset="d", learning_rate=0.5), 3072) == 0.5


@pytest.mark.parametrize(
    ("batch_size", "mean_tokens", "pass_tokens", "size"),
    [(16, 45.0, 1024, 16), (16, 300.0, 1024, 2), (12, 100.0, 500, 4), (16, 5000.0, 1024, 1), (7, 200.0, 1024, 1)],
)
def test_micro_batches_divide_the_batch(batch_size: int, mean_tokens: float, pass_tokens: int, size: int):
    assert micro_batch(batch_size, mean_tokens, pass_tokens) == size


def test_intervals_of_short_and_long_runs():
    config = TrainConfig(dataset="d")
    assert Intervals.of(config, 3) == Intervals(log=1, evaluate=1, save=1)
    assert Intervals.of(config, 4000) == Intervals(log=10, evaluate=800, save=400)
    assert Intervals.of(TrainConfig(dataset="d", eval_steps=7, save_steps=9), 4000).save == 9


def test_rows_without_an_answer_token_are_left_out_and_counted(renderer: Renderer):
    chats = [chat(0, 2), chat(1, 40), chat(2, 3), chat(3, 2)]
    rows, notices = learnable(chats, renderer, 30, max_unlearnable_share=0.25)
    assert [row.row for row in rows.conversations] == [0, 2, 3]
    assert all(example.trained for example in rows.examples)
    assert [notice.code for notice in notices] == ["rows_without_answer"]
    assert notices[0].message.startswith("1 of 4 rows")
    assert "chats.jsonl row 1" in notices[0].message


def test_too_many_rows_without_an_answer_token_refuse_the_run(renderer: Renderer):
    chats = [chat(0, 2), chat(1, 40), chat(2, 40)]
    with pytest.raises(UserError, match=r"2 of 3 rows.*chats\.jsonl row 1, chats\.jsonl row 2.*--max-length"):
        learnable(chats, renderer, 30, max_unlearnable_share=0.5)
    with pytest.raises(UserError, match="1 of 1 rows"):
        learnable(chats[1:2], renderer, 30, max_unlearnable_share=1.0)
    rows, _ = learnable(chats[1:], renderer, 30, max_unlearnable_share=None)
    assert rows.examples == []


def test_cut_rows_are_counted_and_lengths_hold(renderer: Renderer):
    chats = [chat(0, 2), chat(1, 2, answer="It is on and it stays on until the morning comes to the house.")]
    rows, notices = learnable(chats, renderer, 16, max_unlearnable_share=0.0)
    assert [notice.code for notice in notices] == ["rows_truncated"]
    assert "chats.jsonl row 1" in notices[0].message
    assert [len(example.input_ids) <= 16 for example in rows.examples] == [True, True]
    assert rows.tokens == sum(len(example.input_ids) for example in rows.examples)
    assert rows.trained_tokens == sum(label != -100 for example in rows.examples for label in example.labels)
