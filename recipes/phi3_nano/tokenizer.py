"""phi3-nano's own byte-level BPE tokenizer, with the special tokens and the chat template of Phi-3."""

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE

VOCAB_SIZE = 4096
CONTEXT = 1024
BOS, PAD, UNK = "<s>", "<|endoftext|>", "<unk>"
STOPS = ("<|endoftext|>", "<|assistant|>", "<|end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{'<|system|>\n' + message['content'] + '<|end|>\n'}}"
    "{% elif message['role'] == 'user' %}{{'<|user|>\n' + message['content'] + '<|end|>\n'}}"
    "{% elif message['role'] == 'assistant' %}{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
"""The official template of Phi-3-mini-4k-instruct (June 2024), byte for byte."""

# (text, rstrip, special), in the order of the ids, flags as in the official tokenizer_config.json.
_ADDED = (
    ("<unk>", False, True), ("<s>", False, True), ("</s>", True, False), ("<|endoftext|>", False, True),
    ("<|assistant|>", True, True), ("<|placeholder1|>", True, True), ("<|placeholder2|>", True, True),
    ("<|placeholder3|>", True, True), ("<|placeholder4|>", True, True), ("<|system|>", True, True),
    ("<|end|>", True, True), ("<|placeholder5|>", True, True), ("<|placeholder6|>", True, True),
    ("<|user|>", True, True),
)  # fmt: skip


def _token(text: str, rstrip: bool, special: bool) -> AddedToken:
    return AddedToken(text, rstrip=rstrip, special=special, normalized=False)


def train_tokenizer(texts: Iterable[str], vocab_size: int = VOCAB_SIZE) -> Tokenizer:
    """Learns a byte-level BPE whose ids begin with the special tokens; digits always stand alone."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokens = [_token(*entry) for entry in _ADDED]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=tokens,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([token for token in tokens if token.special])
    tokenizer.add_tokens([token for token in tokens if not token.special])
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Writes tokenizer.json, tokenizer_config.json and chat_template.jinja."""
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "add_bos_token": False,
        "add_eos_token": False,
        "added_tokens_decoder": {
            str(tokenizer.token_to_id(text)): {
                "content": text,
                "lstrip": False,
                "normalized": False,
                "rstrip": rstrip,
                "single_word": False,
                "special": special,
            }
            for text, rstrip, special in _ADDED
        },
        "bos_token": BOS,
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": PAD,
        "model_max_length": CONTEXT,
        "pad_token": PAD,
        "padding_side": "left",
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": UNK,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, "utf-8")


def rendered(messages: list[dict[str, str]]) -> str:
    """A finished conversation as the chat template renders it."""
    return "".join(f"<|{m['role']}|>\n{m['content']}<|end|>\n" for m in messages) + PAD
