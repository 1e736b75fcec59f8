"""What a run's training data was like, in numbers: made once from the run's dataset, and kept beside the run.

No text is kept: lengths, counts, and a 64-bit hash of each word.
"""

from __future__ import annotations

import base64
import random
import sys
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phi3tune.chat import Message, Renderer
from phi3tune.data.words import WordIds, words
from phi3tune.errors import UserError
from phi3tune.paths import Workspace, write_json

FILE = "profile.json"
SCHEMA = 1
LONGEST = 100_000  # characters of a text that are looked at
_SAMPLE = 10_000  # turns whose length, new words and answers are looked at; the vocabulary is of all rows
_SEED = 7


@dataclass(frozen=True)
class Profile:
    """One run's training part.

    prompt_tokens    tokens of the prompt before each answer of a sample, ascending
    unseen           mean and variance, over the user's turns of the sample, of the share of their words that no other
                     row has: what a turn like those of training brings of new words
    turns            how many turns these are of
    refused, answers refusals among the sample's answers; both 0 where answers are labels
    words            64-bit hashes of all words of the prompts, ascending
    """

    rows: int
    prompt_tokens: tuple[int, ...]
    unseen: tuple[float, float]
    turns: int
    refused: int
    answers: int
    words: array[int]

    def unseen_words(self, hashes: Iterable[int]) -> int:
        """How many of these words are not in the training prompts."""
        return sum(not self._has(number) for number in hashes)

    def _has(self, number: int) -> bool:
        place = bisect_left(self.words, number)
        return place < len(self.words) and self.words[place] == number


class Profiles:
    """The profiles behind the models that one endpoint serves. For one thread."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._found: dict[str, Profile | None] = {}
        self._ids = WordIds()

    def new_words(self, model: str, messages: Sequence[Message]) -> tuple[int, int | None]:
        """How many words the last user turn of a chat has, and how many of them training did not have.

        The second is None for a model whose training data is not known.
        """
        turn = next((message["content"] for message in reversed(messages) if message["role"] == "user"), "")
        hashes = [self._ids[word] for word in words(turn[:LONGEST])] if turn.strip() else []
        if model not in self._found:
            try:
                self._found[model] = of_model(model, self._workspace)
            except UserError:  # `drift` tells it to who asks
                self._found[model] = None
        profile = self._found[model]
        return len(hashes), None if profile is None else profile.unseen_words(hashes)


def of_model(model: str, workspace: Workspace) -> Profile:
    """The profile of the run behind a model, made if there is none yet. Raises `UserError` where it cannot be had."""
    from phi3tune.engines import models

    ref = models.resolve(model, workspace, download=False)
    if ref.run is None:
        raise UserError(f"{model} was not tuned here, so there is no training data to compare with; name a run's model")
    path = workspace.run(ref.run) / FILE
    found = _read(path)
    if found is None:
        found = _made(ref.run, ref.tokenizer, workspace)
        write_json(path, _as_json(found))
    return found


def _made(run: str, tokenizer: Path, workspace: Workspace) -> Profile:
    from phi3tune import data
    from phi3tune.config import TrainConfig, parse, read_yaml
    from phi3tune.engines.folders import read_json
    from phi3tune.evaluation.safety import refused

    folder = workspace.run(run)
    config, path = parse(TrainConfig, read_yaml(folder / "run.yaml")), folder / "dataset.json"
    if not path.is_file():
        raise UserError(f"run {run} has no record of its dataset, so there is nothing to compare with")
    record = read_json(path)
    if data.fingerprint(config.dataset, workspace) != record.get("own_sha256", record.get("sha256")):
        raise UserError(
            f"the dataset of run {run} was changed after training, so there is nothing to compare with; put "
            f"{config.dataset} back as it was"
        )
    dataset = data.load(config, workspace, saved=record)
    chats = [c.messages for c in dataset.parts["train"] if c.messages[0]["role"] != "text"]
    if not chats:
        raise UserError(f"run {run} was trained on plain text, which has no prompts to compare with")
    ids = WordIds()
    rows_with: Counter[int] = Counter()
    for chat in chats:
        rows_with.update({ids[word] for message in chat if message["role"] != "assistant" for word in _words(message)})
    turns = [(chat, place) for chat in chats for place, message in enumerate(chat) if message["role"] == "assistant"]
    if len(turns) > _SAMPLE:
        turns = random.Random(_SEED).sample(turns, _SAMPLE)
    shares = []
    for chat, place in turns:
        asked = [rows_with[ids[word]] == 1 for word in _words(chat[place - 1])]
        shares.append(sum(asked) / len(asked))
    mean = sum(shares) / len(shares)
    answers = [] if config.task == "classification" else [chat[place]["content"] for chat, place in turns]
    lengths = map(len, Renderer.load(tokenizer).prompts([chat[:place] for chat, place in turns]))
    return Profile(
        rows=len(chats),
        prompt_tokens=tuple(sorted(lengths)),
        unseen=(mean, sum((share - mean) ** 2 for share in shares) / max(1, len(shares) - 1)),
        turns=len(shares),
        refused=sum(map(refused, answers)),
        answers=len(answers),
        words=array("Q", sorted(rows_with)),
    )


def _words(message: Message) -> list[str]:
    return words(message["content"][:LONGEST])


def _as_json(profile: Profile) -> dict[str, Any]:
    mean, variance = profile.unseen
    return {
        "schema": SCHEMA,
        "rows": profile.rows,
        "prompt_tokens": list(profile.prompt_tokens),
        "unseen": {"mean": mean, "variance": variance},
        "turns": profile.turns,
        "refused": profile.refused,
        "answers": profile.answers,
        "words": base64.b64encode(_little_endian(profile.words).tobytes()).decode(),
    }


def _read(path: Path) -> Profile | None:
    """A profile as it was written, or None where there is none that this version reads."""
    from phi3tune.engines.folders import read_json

    if not path.is_file():
        return None
    found = read_json(path)
    if found.get("schema") != SCHEMA:
        return None
    hashes = array("Q")
    hashes.frombytes(base64.b64decode(found["words"]))
    return Profile(
        rows=found["rows"],
        prompt_tokens=tuple(found["prompt_tokens"]),
        unseen=(found["unseen"]["mean"], found["unseen"]["variance"]),
        turns=found["turns"],
        refused=found["refused"],
        answers=found["answers"],
        words=_little_endian(hashes),
    )


def _little_endian(numbers: array[int]) -> array[int]:
    """The same numbers with their bytes as the file has them."""
    if sys.byteorder == "big":
        numbers = array("Q", numbers)
        numbers.byteswap()
    return numbers
