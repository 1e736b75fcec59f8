"""Chats to token ids and back: the one prompt renderer of training, evaluation, playground and export.

A chat template's text decides where the special tokens go; the renderer puts their ids there itself and
tokenises every message on its own with a tokenizer that knows no special token. So no text can forge a
role, and on clean text the ids equal those of transformers' `apply_chat_template`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypedDict

from tokenizers import Encoding, Tokenizer

from phi3tune.errors import UserError

Role = Literal["system", "user", "assistant", "text"]
NO_LOSS = -100
_READ = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")


class Message(TypedDict):
    role: Role
    content: str


@dataclass(frozen=True)
class Example:
    """A conversation for training; `labels` repeats `input_ids` where loss is taken and is -100 elsewhere."""

    input_ids: list[int]
    labels: list[int]
    truncated: bool

    @property
    def trained(self) -> int:
        """Tokens that take part in the loss."""
        return len(self.labels) - self.labels.count(NO_LOSS)


@dataclass(frozen=True)
class _Template:
    """What differs between the official templates of the Phi-3 family."""

    name: str
    system: bool = True
    bos: bool = False
    newline: str = "\n"
    final_eos: bool = True


# By sha256 of the template's text, so that a template nobody has checked is never guessed at.
_TEMPLATES = {
    "dcaee66df77bfbb789ec541fe713218da30225a526f1db97138fc39ee6dc56aa": _Template("phi3-june-2024"),
    "268b6082ceb7176dc6ed80557a2f7837f9f0339592fbee677d405a553af15f88": _Template(
        "phi3-april-2024", system=False, bos=True, final_eos=False
    ),
    "605841622bcb6572225608f09ec2afcdfb9fb50844ef52715a12689f7b9278b1": _Template(
        "phi3-medium", system=False, final_eos=False
    ),
    "78d976a442bcde2f0be15aafbb8e3050e1104f86732266f68403251b89982a90": _Template("phi3.5"),
    "febf589225c9728ab791f52e8897d7607a823d45368f0a4c92fa68997b40cce9": _Template("phi4-mini", newline=""),
}


class Renderer:
    """Renders chats for one model folder. Immutable, and safe to share between threads."""

    def __init__(self, folder: Path) -> None:
        spec = _read_json(folder / "tokenizer.json")
        config = _read_json(folder / "tokenizer_config.json")
        self._template = _find_template(folder, config)
        self.template = self._template.name
        try:
            self._tokenizer = Tokenizer.from_str(json.dumps(spec))
            self._content = Tokenizer.from_str(json.dumps(_without_added_tokens(spec)))
        except Exception as error:  # tokenizers raises plain Exception for whatever it cannot read
            raise UserError(f"{folder / 'tokenizer.json'} cannot be read as a tokenizer: {error}") from None
        self._added: dict[str, int] = {token["content"]: token["id"] for token in spec.get("added_tokens", [])}
        # transformers lets tokenizer_config.json overrule tokenizer.json on what a token swallows to its right
        stripping = {token["content"]: token["rstrip"] for token in spec.get("added_tokens", [])}
        stripping |= {t["content"]: t["rstrip"] for t in config.get("added_tokens_decoder", {}).values()}

        def after(token: str) -> str:
            return "" if stripping[token] else self._template.newline

        tags = {role: f"<|{role}|>" for role in ("system", "user", "assistant")}
        missing = [t for t in (*tags.values(), "<|end|>", "<|endoftext|>") if t not in self._added]
        if missing:
            raise UserError(f"the tokenizer in {folder} has no token {missing[0]}; choose a Phi-3 chat model")
        self._tag = {role: self._added[tag] for role, tag in tags.items()}
        self._lead = {role: after(tag) for role, tag in tags.items()}
        self._lead_ids = {role: self._encode(lead) for role, lead in self._lead.items()}
        self._end = self._added["<|end|>"]
        self._text_end = self._added["<|endoftext|>"]
        self._after_end = self._encode(after("<|end|>"))
        self.eos_id: int = self._added[_token_text(config.get("eos_token"), "<|endoftext|>")]
        self._bos = [self._added[_token_text(config.get("bos_token"), "<s>")]] if self._template.bos else []
        listed = _read_json(folder / "generation_config.json", optional=True).get("eos_token_id", [])
        listed = listed if isinstance(listed, list) else [listed]
        self.special_ids: frozenset[int] = frozenset(self._added.values())
        self.end_ids: frozenset[int] = frozenset([*listed, self._end, self._added["<|endoftext|>"], self.eos_id])
        self.vocab_size: int = self._tokenizer.get_vocab_size(with_added_tokens=True)

    @classmethod
    def load(cls, folder: Path) -> Renderer:
        """The renderer of a model folder, cached until one of its files changes.

        Raises `UserError` when there is no tokenizer.json or the chat template is not a known one.
        """
        if not (folder / "tokenizer.json").is_file():
            raise UserError(f"{folder} has no tokenizer.json; choose a folder with a Phi-3 model and its tokenizer")
        return _load(folder.resolve(), tuple(_stamp(folder / name) for name in _READ))

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """Ids of the chat so far, ending where the assistant's answer begins."""
        return self.prompts([messages])[0]

    def prompts(self, chats: Sequence[Sequence[Message]]) -> list[list[int]]:
        """`prompt` of many chats, tokenised on all cores."""
        return [[*ids, self._tag["assistant"], *self._lead_ids["assistant"]] for ids, _ in self._render(chats)]

    def training_example(self, messages: Sequence[Message], max_length: int | None = None) -> Example:
        """The whole conversation. Loss is on every assistant turn's content, its `<|end|>` and the final end.

        A row of plain text (one message with the role `text`) is its content and `<|endoftext|>`, all learned.
        """
        return self.training_examples([messages], max_length)[0]

    def training_examples(self, chats: Sequence[Sequence[Message]], max_length: int | None = None) -> list[Example]:
        """`training_example` of many chats, tokenised on all cores. What is beyond `max_length` is cut."""
        examples = []
        for messages, (ids, labels) in zip(chats, self._render(chats), strict=True):
            if self._template.final_eos and messages[-1]["role"] != "text":
                ids.append(self.eos_id)
                labels.append(self.eos_id if messages[-1]["role"] == "assistant" else NO_LOSS)
            cut = max_length is not None and len(ids) > max_length
            examples.append(Example(ids[:max_length], labels[:max_length], cut))
        return examples

    def spans(self, chats: Sequence[Sequence[Message]]) -> list[list[tuple[int, bool]]]:
        """Lengths of each chat's runs of tokens, with whether loss is taken on them: `training_examples` run-length
        encoded, uncut, without building it. The tokenizer releases the GIL, so that a thread can do this."""
        turns = self._turns(chats)
        encoded = iter(self._encode_batch(turns))
        counted = []
        for chat, messages in zip(turns, chats, strict=True):
            runs = [(len(self._bos), False)]
            for role, _ in chat:
                content = next(encoded)
                if role == "text":
                    runs.append((len(content) + 1, True))
                    continue
                lead = self._lead_ids[role] if role == "assistant" else []
                skipped = len(lead) if lead and content.ids[: len(lead)] == lead else 0
                runs += [(1 + skipped, False), (len(content) - skipped + 1, role == "assistant")]
                runs.append((len(self._after_end), False))
            if self._template.final_eos and messages[-1]["role"] != "text":
                runs.append((1, messages[-1]["role"] == "assistant"))
            counted.append(_merged(runs))
        return counted

    def first_message(self, prompt: Sequence[int]) -> int:
        """Tokens of a rendered chat up to and with the end of its first user message; 0 where there is none."""
        try:
            return prompt.index(self._end, prompt.index(self._tag["user"])) + 1
        except ValueError:
            return 0

    def encode(self, text: str) -> list[int]:
        """Ids of a message's content, stripped; never the id of a special or added token."""
        return self._encode(clean(text))

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, special tokens left out."""
        return self._tokenizer.decode(ids, skip_special_tokens=True)

    def stream_decoder(self) -> StreamDecoder:
        return StreamDecoder(self._tokenizer)

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """Each token as visible text: special tokens and parts of a character by their name."""
        before = self._encode("a")
        known = self._tokenizer.decode(before)
        names = {token_id: name for name, token_id in self._added.items()}
        shown = []
        for token_id in ids:
            text = self._tokenizer.decode([*before, token_id])[len(known) :]
            name = names.get(token_id) or self._tokenizer.id_to_token(token_id) or f"<{token_id}>"
            shown.append(name if token_id in names or not text or "�" in text else text)
        return shown

    def _encode(self, text: str) -> list[int]:
        return self._content.encode(text, add_special_tokens=False).ids if text else []

    def _turns(self, chats: Sequence[Sequence[Message]]) -> list[list[tuple[Role, str]]]:
        return [[turn for message in messages if (turn := self._turn(message))] for messages in chats]

    def _encode_batch(self, turns: Sequence[Sequence[tuple[Role, str]]]) -> list[Encoding]:
        texts = [self._lead.get(role, "") + text for chat in turns for role, text in chat]
        return self._content.encode_batch_fast(texts, add_special_tokens=False)

    def _render(self, chats: Sequence[Sequence[Message]]) -> list[tuple[list[int], list[int]]]:
        """(ids, labels) of each chat, up to and with the last message's `<|end|>`."""
        turns = self._turns(chats)
        encoded = iter(self._encode_batch(turns))
        rendered = []
        for chat in turns:
            ids, labels = list(self._bos), [NO_LOSS] * len(self._bos)
            for role, _ in chat:
                content = next(encoded).ids
                if role == "text":  # not a chat: no tags, and all of it is learned
                    ids += [*content, self._text_end]
                    labels += [*content, self._text_end]
                    continue
                ids += [self._tag[role], *content, self._end, *self._after_end]
                if role == "assistant":
                    # A newline that is a token belongs to the tag, not to the answer.
                    lead = self._lead_ids[role]
                    unlearned = len(lead) if content[: len(lead)] == lead else 0
                    labels += [NO_LOSS] * (1 + unlearned) + content[unlearned:] + [self._end]
                labels += [NO_LOSS] * (len(ids) - len(labels))
            rendered.append((ids, labels))
        return rendered

    def _turn(self, message: Message) -> tuple[Role, str] | None:
        role, text = message["role"], clean(message["content"])
        if role not in self._tag and role != "text":
            raise UserError(f"role {role!r} is not accepted; the roles are system, user, assistant and text")
        if role == "system":
            if not text:
                return None
            if not self._template.system:
                raise UserError(
                    f"this model's chat template ({self.template}) has no system role and would drop the text "
                    f"{text[:40]!r} silently; put it into the first user message, or choose a newer model"
                )
        return role, text


class StreamDecoder:
    """Text of a growing sequence: what `push` and `flush` return adds up to `Renderer.decode` of all ids."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._special = {i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special}
        self._before: list[int] = []
        self._pending: list[int] = []

    def push(self, token_id: int) -> str:
        """The text that this token makes final; empty while a character may still be incomplete."""
        token = self._tokenizer.id_to_token(token_id)
        if token is None or token_id in self._special:
            return ""
        self._pending.append(token_id)
        # A run of byte tokens decodes as a whole: one bad byte in it turns all of it into U+FFFD.
        if len(token) == 6 and token.startswith("<0x"):
            return ""
        text = self._text()
        return "" if text.endswith("�") else self._take(text)

    def flush(self) -> str:
        """What was held back, when no more tokens come."""
        return self._take(self._text())

    def _text(self) -> str:
        # Decoded behind the last final token, because a decoder may treat the start of a text differently.
        before = self._tokenizer.decode(self._before)
        return self._tokenizer.decode(self._before + self._pending)[len(before) :]

    def _take(self, text: str) -> str:
        self._before, self._pending = self._pending[-1:] or self._before, []
        return text


def clean(text: str) -> str:
    """Content as it is tokenised: stripped, and with U+FFFD for what is no character (half a surrogate pair)."""
    text = text.strip()
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _merged(runs: Iterable[tuple[int, bool]]) -> list[tuple[int, bool]]:
    merged: list[tuple[int, bool]] = []
    for length, learned in runs:
        if merged and merged[-1][1] == learned:
            merged[-1] = (merged[-1][0] + length, learned)
        elif length:
            merged.append((length, learned))
    return merged


@lru_cache(maxsize=8)
def _load(folder: Path, stamps: tuple[tuple[int, int], ...]) -> Renderer:
    """`stamps` is part of the cache's key: a changed file makes a new renderer."""
    return Renderer(folder)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except FileNotFoundError:
        return (0, 0)
    return (status.st_mtime_ns, status.st_size)


def _read_json(path: Path, *, optional: bool = False) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if optional:
            return {}
        raise UserError(f"{path} does not exist; choose a folder with a Phi-3 model and its tokenizer") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise UserError(f"{path} must hold a JSON object")
    return value


def _find_template(folder: Path, config: dict[str, Any]) -> _Template:
    path = folder / "chat_template.jinja"  # transformers prefers it to the one in tokenizer_config.json
    text = path.read_bytes().decode("utf-8", "replace") if path.is_file() else config.get("chat_template")
    if not isinstance(text, str):
        raise UserError(f"{folder} has no chat template; choose a Phi-3 chat (instruct) model")
    template = _TEMPLATES.get(hashlib.sha256(text.encode()).hexdigest())
    if template is None:
        known = ", ".join(t.name for t in _TEMPLATES.values())
        raise UserError(
            f"the chat template in {folder} is not one this program knows ({known}); "
            "use the tokenizer files of the official model"
        )
    return template


def _without_added_tokens(spec: dict[str, Any]) -> dict[str, Any]:
    """A tokenizer for content. `encode_special_tokens` would not do: `</s>` is an added token without being special."""
    model = dict(spec["model"])
    added = {token["content"] for token in spec.get("added_tokens", [])} - {model.get("unk_token")}
    model["vocab"] = {token: i for token, i in model["vocab"].items() if token not in added}
    return {**spec, "added_tokens": [], "post_processor": None, "truncation": None, "padding": None, "model": model}


def _token_text(token: Any, default: str) -> str:
    """A special token's text: older configs hold an object in place of a string."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else default
