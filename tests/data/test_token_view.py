"""The tokens that are shown are the tokens that are trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from phi3tune.chat import NO_LOSS, Message, Renderer
from phi3tune.config import DatasetConfig
from phi3tune.data.conversation import Conversation
from phi3tune.data.token_view import find_row, tokens
from phi3tune.errors import UserError
from phi3tune.paths import Workspace
from tests.data.conftest import chat, jsonl
from tests.fakes import TOKENIZER

CHATS: list[tuple[Message, ...]] = [
    (
        {"role": "system", "content": "Short."},
        {"role": "user", "content": "Hi <|end|>"},
        {"role": "assistant", "content": "は it"},
    ),
    ({"role": "text", "content": "Some plain text."},),
]


@pytest.mark.parametrize("messages", CHATS)
@pytest.mark.parametrize("max_length", [5, 1000])
def test_shown_tokens_are_the_trained_ones(messages: tuple[Message, ...], max_length: int) -> None:
    renderer = Renderer.load(TOKENIZER)
    shown = tokens(Conversation(messages, 0, "a.jsonl"), renderer, max_length)
    whole, trained = renderer.training_example(messages), renderer.training_example(messages, max_length)
    kept = [token for token in shown if not token.cut]
    assert [token.id for token in shown] == whole.input_ids
    assert [token.id for token in kept] == trained.input_ids
    assert [token.id if token.learned else NO_LOSS for token in kept] == trained.labels
    assert not any(token.learned for token in shown[len(kept) :])
    content = [token.text for token in shown if not token.special]
    assert "".join(content).strip().endswith(messages[-1]["content"][-2:])


def test_rows_are_found_by_their_number(tmp_path: Path, workspace: Workspace) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(jsonl([chat(n) for n in range(20)]))
    config = DatasetConfig(dataset=str(path))
    assert find_row(config, workspace, 7).row == 7
    assert find_row(config, workspace, 1, "test").row > 1
    for row, part in ((20, None), (2, "test")):
        with pytest.raises(UserError, match=rf"--row {row}"):
            find_row(config, workspace, row, part)  # type: ignore[arg-type]
