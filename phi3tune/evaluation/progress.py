"""What each model has done so far, one line a row: an interrupted evaluation continues from it.

The lines of a batch are written and synced together, so that at most one batch is done again. The first line says
what was asked of which model; answers to anything else are thrown away.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from phi3tune.engines.base import FinishReason
from phi3tune.errors import UserError
from phi3tune.evaluation.likelihood import Likelihood

SCHEMA = 1


@dataclass(frozen=True)
class Answer:
    """What one model did with the row at `place`; None is what it did not do or does not tell.

    reason                  why there is no answer
    answer_tokens           tokens of the answer, the end token not among them
    seconds                 from the request to the answer's last token, in the batch it was part of
    first_token_seconds     from the request to its first token
    answering_seconds       the row's share of the time its batch took to be answered
    scoring_seconds         the same for the likelihood
    """

    place: int
    text: str | None = None
    finish_reason: FinishReason | None = None
    reason: str | None = None
    answer_tokens: int | None = None
    seconds: float | None = None
    first_token_seconds: float | None = None
    likelihood: Likelihood | None = None
    answering_seconds: float = 0.0
    scoring_seconds: float = 0.0


def path(folder: Path, model: int) -> Path:
    """The file of the model at place `model` of the report."""
    return folder / f"answers-{model}.jsonl"


class Progress:
    """The answers of one model. `engine` holds facts about it, known once it was opened."""

    def __init__(self, file: Path, key: str) -> None:
        self._file = file
        self._key = key
        self.answers: dict[int, Answer] = {}
        self.engine: dict[str, Any] | None = None
        self._length = self._read()

    def begin(self, engine: dict[str, Any]) -> None:
        """Make the file ready for more answers of the opened engine."""
        if self.engine is None:
            self.engine = engine
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.unlink(missing_ok=True)
            self._append([{"schema": SCHEMA, "key": self._key, "engine": engine}])
        elif self._length < self._file.stat().st_size:
            with self._file.open("r+b") as stream:  # half a line from a worker that was killed
                stream.truncate(self._length)

    def add(self, answers: Sequence[Answer]) -> None:
        """Keep the answers of one batch; they are on the disk when this returns."""
        self._append([asdict(answer) for answer in answers])
        self.answers.update((answer.place, answer) for answer in answers)

    def _append(self, lines: Sequence[dict[str, Any]]) -> None:
        with self._file.open("ab") as stream:
            stream.write("".join(json.dumps(line) + "\n" for line in lines).encode())
            stream.flush()
            os.fsync(stream.fileno())

    def _read(self) -> int:
        """Take over what is there and was asked the same way; the bytes of it that are whole lines."""
        try:
            data = self._file.read_bytes()
        except FileNotFoundError:
            return 0
        whole = data[: data.rfind(b"\n") + 1]
        header, *lines = whole.splitlines() or [b"{}"]
        try:
            found = json.loads(header)
            if (found.get("schema"), found.get("key")) != (SCHEMA, self._key):
                return 0
            self.answers = {answer.place: answer for answer in map(_answer, lines)}
            self.engine = found["engine"]
        except (ValueError, KeyError, TypeError):  # not written by this version, or damaged: begin anew
            self.answers = {}
            return 0
        return len(whole)


def _answer(line: bytes) -> Answer:
    value = json.loads(line)
    if value["likelihood"] is not None:
        pieces = tuple((text, loss) for text, loss in value["likelihood"]["pieces"])
        value["likelihood"] = Likelihood(**{**value["likelihood"], "pieces": pieces})
    return Answer(**value)


def token_losses(folder: Path, model: int, place: int) -> list[tuple[str, float]]:
    """The loss-bearing tokens of the row at `place`, each with its negative log-probability in nats.

    Empty where the model gives none. Raises `UserError` when the evaluation kept no answers of that model or row.
    """
    file = path(folder, model)
    start = b'{"place": %d,' % place
    try:
        with file.open("rb") as stream:
            line = next((line for line in stream if line.startswith(start)), None)
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error}") from None
    if line is None:
        raise UserError(f"{file} holds no answer to row {place}")
    found = _answer(line).likelihood
    return list(found.pieces) if found is not None else []
