"""Turns conversations into fixed-size training batches whose documents do not see each other."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

import torch
from tokenizers import Tokenizer
from torch import Tensor

from .chat import Message
from .tokenizer import PAD, rendered

BLOCK = 256
"""Tokens in a block; longer conversations are left out."""
USER_WEIGHT = 0.3
"""Loss weight of tokens that the model does not write itself; tokens of answers weigh 1."""

Document: TypeAlias = tuple[list[int], list[float]]
"""Token ids of a conversation and the loss weight of each."""

_CHUNK = 4096


@dataclass(frozen=True)
class Batch:
    """Tensors of shape [rows, BLOCK]; `mask` is [rows, 1, BLOCK, BLOCK], true where attention is allowed."""

    ids: Tensor
    positions: Tensor
    mask: Tensor
    targets: Tensor
    weights: Tensor
    tokens: int


def _documents(conversations: Iterator[list[Message]], tokenizer: Tokenizer) -> Iterator[Document]:
    """Token ids of each conversation and the loss weight of each token."""
    answer, end = tokenizer.token_to_id("<|assistant|>"), tokenizer.token_to_id("<|end|>")
    while chunk := list(islice(conversations, _CHUNK)):
        for encoding in tokenizer.encode_batch_fast([rendered(messages) for messages in chunk]):
            ids = encoding.ids
            if len(ids) > BLOCK:
                continue
            weights, inside = [], False
            for token in ids:
                weights.append(1.0 if inside else USER_WEIGHT)
                if token == answer:
                    inside = True
                elif token == end:
                    inside = False
            yield ids, weights


def _blocks(documents: Iterator[Document], open_blocks: int = 32) -> Iterator[list[Document]]:
    """Fills blocks first-fit, keeping some open; yields one as soon as a document finds no room."""
    pool: list[tuple[int, list[Document]]] = [(0, []) for _ in range(open_blocks)]
    for document in documents:
        size = len(document[0])
        fitting = [i for i, (used, _) in enumerate(pool) if used + size <= BLOCK]
        if fitting:
            at = max(fitting, key=lambda i: pool[i][0])
            used, items = pool[at]
            pool[at] = (used + size, [*items, document])
        else:
            at = max(range(open_blocks), key=lambda i: pool[i][0])
            yield pool[at][1]
            pool[at] = (size, [document])


def batches(conversations: Iterator[list[Message]], tokenizer: Tokenizer, rows: int) -> Iterator[Batch]:
    """Endless batches of `rows` blocks; targets are the next token of the same document, -100 elsewhere."""
    pad: int = tokenizer.token_to_id(PAD)  # type: ignore[assignment]  # a special token of every tokenizer here
    blocks = _blocks(_documents(conversations, tokenizer))
    causal = torch.ones(BLOCK, BLOCK, dtype=torch.bool).tril()
    while chosen := list(islice(blocks, rows)):
        ids = torch.full((rows, BLOCK), pad)
        targets = torch.full((rows, BLOCK), -100)
        positions = torch.zeros(rows, BLOCK, dtype=torch.long)
        weights = torch.zeros(rows, BLOCK)
        owner = torch.zeros(rows, BLOCK, dtype=torch.long)
        tokens = 0
        for row, items in enumerate(chosen):
            start = 0
            for number, (document, importance) in enumerate(items, 1):
                stop = start + len(document)
                ids[row, start:stop] = torch.tensor(document)
                targets[row, start : stop - 1] = ids[row, start + 1 : stop]
                weights[row, start : stop - 1] = torch.tensor(importance[1:])
                positions[row, start:stop] = torch.arange(len(document))
                owner[row, start:stop] = number
                start = stop
            tokens += start
        mask = causal & (owner[:, :, None] == owner[:, None, :])
        yield Batch(ids, positions, mask[:, None], targets, weights, tokens)
