"""The machinery of the phi3-nano recipe: tokenizer, batches, optimizer."""

import json
from itertools import islice
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from recipes.phi3_nano.batches import BLOCK, batches
from recipes.phi3_nano.corpus import training_stream
from recipes.phi3_nano.muon import Muon, orthogonalised
from recipes.phi3_nano.tokenizer import CHAT_TEMPLATE, rendered, save_tokenizer, train_tokenizer
from recipes.phi3_nano.train import config, new_model, save_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer")
    tokenizer = train_tokenizer((rendered(messages) for messages in islice(training_stream(0), 2000)), vocab_size=700)
    save_tokenizer(tokenizer, path)
    save_model(new_model(tokenizer, seed=0), path)
    return path


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("text", ["Hello there!", "ünï 日本語 😀\t\n\n  x", "1234 + 5", "", " a  b "])
def test_any_text_survives_a_round_trip(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_digits_stand_alone(tokenizer: PreTrainedTokenizerBase) -> None:
    assert tokenizer.tokenize("1234") == list("1234")


def test_the_template_and_our_rendering_agree(tokenizer: PreTrainedTokenizerBase) -> None:
    assert tokenizer.chat_template == CHAT_TEMPLATE
    for messages in islice(training_stream(1), 200):
        ids = tokenizer.apply_chat_template(messages, return_dict=False)
        assert ids == tokenizer(rendered(messages))["input_ids"]


def test_special_tokens_are_those_of_phi3(tokenizer: PreTrainedTokenizerBase) -> None:
    assert tokenizer.convert_ids_to_tokens(range(5)) == ["<unk>", "<s>", "</s>", "<|endoftext|>", "<|assistant|>"]
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == ("<s>", "<|endoftext|>", "<|endoftext|>")
    assert tokenizer("<|user|>\nHi")["input_ids"] == tokenizer("<|user|>Hi")["input_ids"]
    assert len(tokenizer("<|user|>\n\n<|end|>")["input_ids"]) == 2


def test_saved_folder_stops_at_every_end_token(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    stops = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
    assert tokenizer.convert_ids_to_tokens(stops) == ["<|endoftext|>", "<|assistant|>", "<|end|>"]
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"


def test_documents_of_a_block_do_not_see_each_other(folder: Path) -> None:
    raw = Tokenizer.from_file(str(folder / "tokenizer.json"))
    batch = next(batches(training_stream(0), raw, rows=4))
    assert batch.ids.shape == (4, BLOCK)
    assert batch.tokens > 0.9 * 4 * BLOCK
    starts = (batch.positions[0] == 0).nonzero().flatten()
    second = int(starts[1])
    assert not batch.mask[0, 0, second, :second].any()
    assert batch.mask[0, 0, second - 1, :second].all()
    assert batch.targets[0, second - 1] == -100
    assert (batch.targets[0, : second - 1] == batch.ids[0, 1:second]).all()


def test_answers_weigh_more_than_questions(folder: Path) -> None:
    raw = Tokenizer.from_file(str(folder / "tokenizer.json"))
    chat = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]
    batch = next(batches(iter([chat] * 5000), raw, rows=1))
    size = len(raw.encode(rendered(chat)).ids)
    answer = raw.encode(rendered(chat)).ids.index(raw.token_to_id("<|assistant|>"))
    assert (batch.weights[0, :answer] < 1).all()
    assert (batch.weights[0, answer : size - 2] == 1).all()


def test_muon_updates_have_even_singular_values() -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalised(torch.randn(48, 96)))
    assert values.min() > 0.5
    assert values.max() < 1.4
    weight = torch.nn.Parameter(torch.randn(8, 16))
    before = weight.detach().clone()
    weight.grad = torch.randn(8, 16)
    Muon([weight], lr=0.1).step()
    assert not torch.equal(before, weight)


def test_the_architecture_is_phi3(folder: Path) -> None:
    shape = config(Tokenizer.from_file(str(folder / "tokenizer.json")))
    assert shape.model_type == "phi3"
    assert shape.max_position_embeddings == shape.original_max_position_embeddings
    assert shape.sliding_window is None
