"""Models that choose one of their labels, for torch and for plain onnxruntime.

The prompt is rendered as for a chat up to where the answer would begin, and the head looks at its last token.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from phi3tune.chat import Message, Renderer
from phi3tune.engines.base import Cancelled, Chunk, Completion, EngineInfo, Request, Scores, Usage, never
from phi3tune.engines.decoding import rope_switch
from phi3tune.engines.folders import CLASSIFIER, labels_of, read_json
from phi3tune.errors import UserError

if TYPE_CHECKING:
    from phi3tune.engines.models import ModelRef

_BATCH_ROWS = 16
_CAN = frozenset({"classify", "messages"})


class Classification(TypedDict):
    """The likeliest label of a text, its probability, and the probability of every label, likeliest first.

    `truncated` tells that the text was longer than the model's context, and that its end was not read.
    """

    label: str
    score: float
    scores: dict[str, float]
    truncated: bool


class Prompts:
    """Chats as token ids of at most `max_length`; the end that the head looks at is never cut."""

    def __init__(self, renderer: Renderer, max_length: int) -> None:
        self._renderer = renderer
        self._max_length = max_length
        one, other = (renderer.prompt([{"role": "user", "content": text}]) for text in "ab")
        same = [x == y for x, y in zip(reversed(one), reversed(other), strict=False)]
        self._ending = same.index(False)  # tokens after the last message's text
        if self._ending >= max_length:
            raise UserError(f"--max-length {max_length} has no room for a text; use at least {self._ending + 1}")

    def ids(self, chats: Sequence[Sequence[Message]]) -> list[tuple[list[int], bool]]:
        """The ids of each chat up to where its answer would begin, and whether it was cut."""
        prompts = []
        for ids in self._renderer.prompts(chats):
            cut = len(ids) > self._max_length
            if cut:
                ids = [*ids[: self._max_length - self._ending], *ids[-self._ending :]]
            prompts.append((ids, cut))
        return prompts


class Classifier(ABC):
    """One loaded classifier. It is an `Engine` too, whose answer to a chat is the likeliest label.

    Raises `UserError` when the folders do not hold a classifier with its labels.
    """

    def __init__(self, folder: Path, *, labels: tuple[str, ...], context_length: int | None = None) -> None:
        self.renderer = Renderer.load(folder)
        self.labels = labels
        config = read_json(folder / "config.json")
        self._switch = rope_switch(config)
        self._context = context_length or int(config["max_position_embeddings"])
        self._prompts = Prompts(self.renderer, self._context)

    @property
    @abstractmethod
    def info(self) -> EngineInfo:
        """Facts about the model; `vocab_size` is the number of labels."""

    @abstractmethod
    def _logits(self, rows: Sequence[Sequence[int]]) -> np.ndarray:
        """Logits float32 [B, L] of a batch of B prompts, for L labels."""

    @abstractmethod
    def close(self) -> None:
        """Free the weights."""

    def classify(self, inputs: Sequence[str | Sequence[Message]]) -> list[Classification]:
        """The labels of texts, or of chats that end with the user's turn, in their order.

        Raises `UserError` for a chat that ends otherwise.
        """
        prompts = self._prompts.ids([_messages(each) for each in inputs])
        logits = self.logits_of([ids for ids, _ in prompts])
        return [self._classification(row, cut) for row, (_, cut) in zip(logits, prompts, strict=True)]

    def logits_of(self, prompts: Sequence[Sequence[int]]) -> np.ndarray:
        """Logits float32 [N, L] of N prompts, in batches of like length."""
        found = np.zeros((len(prompts), len(self.labels)), np.float32)
        order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
        # The longest row of a batch decides its rotary factors: rows of both sides of the switch are kept apart.
        switch = self._switch
        short = [place for place in order if switch is None or len(prompts[place]) <= switch]
        for group in (short, order[len(short) :]):
            for start in range(0, len(group), _BATCH_ROWS):
                places = group[start : start + _BATCH_ROWS]
                found[places] = self._logits([prompts[place] for place in places])
        return found

    def _classification(self, logits: np.ndarray, cut: bool) -> Classification:
        shares = np.exp(logits.astype(np.float64) - logits.max())
        shares /= shares.sum()
        scores = {self.labels[place]: float(shares[place]) for place in np.argsort(-shares, kind="stable")}
        label = next(iter(scores))
        return {"label": label, "score": scores[label], "scores": scores, "truncated": cut}

    def stream(self, request: Request, cancelled: Cancelled = never) -> Iterator[Chunk]:
        """The likeliest label as one chunk, and the end."""
        began = time.perf_counter()
        label = self.classify([request.messages or ()])[0]["label"]
        yield Chunk(label, ())
        yield Chunk("", (), "stop", Usage(0, 0, 0, time.perf_counter() - began, 0.0))

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """The likeliest label of each chat."""
        began = time.perf_counter()
        found = self.classify([request.messages or () for request in requests])
        usage = Usage(0, 0, 0, time.perf_counter() - began, 0.0)
        return [Completion(each["label"], (), "stop", usage) for each in found]

    def score(self, token_ids: Sequence[int]) -> Scores:
        raise UserError("a classifier gives probabilities of its labels, not of text")

    def logits(self, token_ids: Sequence[int], positions: Sequence[int]) -> Iterator[np.ndarray]:
        raise UserError("a classifier gives probabilities of its labels, not of text")

    def _info(self, ref: ModelRef, kind: str, precision: str, device: str, size_bytes: int) -> EngineInfo:
        return EngineInfo(ref.label, kind, precision, device, self._context, len(self.labels), size_bytes, _CAN)

    def _padded(self, rows: Sequence[Sequence[int]], pad: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids and attention mask, int64 [B, T], padded on the right."""
        width = max(map(len, rows))
        ids = np.full((len(rows), width), pad, np.int64)
        mask = np.zeros_like(ids)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = row
            mask[place, : len(row)] = 1
        return ids, mask


def open_classifier(ref: ModelRef, *, threads: int | None = None) -> Classifier:
    """Load a classifier in this process, on `threads` cores (all that the process may use, when None).

    Raises `UserError` when the model is none, a file of it was altered, or it cannot be loaded.
    """
    from phi3tune.engines.models import verify

    if ref.task != "classification":
        raise UserError(
            f"{ref.label} answers chats and chooses no labels; name a run with --task classification, or use "
            "phi3tune chat"
        )
    verify(ref)
    if ref.kind == "onnxruntime":
        from phi3tune.engines.classifier_onnx import OnnxClassifier

        return OnnxClassifier(ref, threads=threads)
    from phi3tune.engines.classifier_torch import TorchClassifier

    return TorchClassifier(ref, threads=threads)


def head_config(config: dict[str, Any], labels: Sequence[str]) -> dict[str, Any]:
    """What a config.json needs so that its weights are a classifier of `labels`."""
    ends = config.get("eos_token_id")
    pad = config.get("pad_token_id")
    return {
        "architectures": [CLASSIFIER],
        "id2label": {str(place): label for place, label in enumerate(labels)},
        "label2id": {label: place for place, label in enumerate(labels)},
        # Transformers finds a padded row's last token by it.
        "pad_token_id": pad if pad is not None else ends[0] if isinstance(ends, list) else ends,
    }


def labels_of_ref(ref: ModelRef) -> tuple[str, ...]:
    """The labels of a classifier, from its small files only."""
    return labels_of(ref.adapter or ref.base)


def _messages(given: str | Sequence[Message]) -> Sequence[Message]:
    messages: Sequence[Message] = [{"role": "user", "content": given}] if isinstance(given, str) else given
    if not messages or messages[-1]["role"] != "user":
        raise UserError("a chat to classify must end with the user's turn; leave the answer out")
    return messages
