"""Reads strangers' files in a process of its own, with limits: `python -m phi3tune.data.child`.

Standard input holds one JSON object: files, config, repair, limits. Standard output gets JSON Lines: `begin` for
each file, then batches of rows with the problems and changes since the last batch, and `end` when nothing is missing.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

import orjson

from phi3tune import system
from phi3tune.config import DatasetConfig
from phi3tune.data.conversation import Conversation
from phi3tune.data.lines import Limits
from phi3tune.data.problems import ProblemLog
from phi3tune.data.process import OUT_OF_MEMORY
from phi3tune.data.reading import Shape, read_files

_BATCH_ROWS = 500
_BATCH_CHARS = 1024**2


class _Sender:
    """Says rows, problems and changes in batches."""

    def __init__(self, log: ProblemLog, shape: Shape) -> None:
        self._log, self._shape = log, shape
        self._rows: list[Any] = []
        self._size = self._errors = self._warnings = 0
        self._told: Any = None

    def add(self, row: Conversation) -> None:
        self._rows.append((row.messages, row.row, row.line, row.group))
        self._size += sum(len(message["content"]) for message in row.messages)
        if len(self._rows) >= _BATCH_ROWS or self._size > _BATCH_CHARS or len(self._log.changes) >= _BATCH_ROWS:
            self.flush()

    def say(self, message: dict[str, Any]) -> None:
        sys.stdout.buffer.write(orjson.dumps(message) + b"\n")
        sys.stdout.buffer.flush()

    def flush(self, **more: Any) -> None:
        log, shape = self._log, self._shape
        message: dict[str, Any] = {
            "rows": self._rows,
            "errors": [problem.model_dump() for problem in log.errors[self._errors :]],
            "warnings": [problem.model_dump() for problem in log.warnings[self._warnings :]],
            "changes": [dataclasses.astuple(change) for change in log.changes],
            "counts": (log.error_count, log.warning_count),
            **more,
        }
        told = (shape.format, dict(shape.mapping), len(shape.columns))
        if told != self._told:
            message["shape"] = dataclasses.asdict(shape)
            self._told = told
        self.say(message)
        self._errors, self._warnings = len(log.errors), len(log.warnings)
        self._rows, self._size = [], 0
        log.changes.clear()


def main() -> None:
    request = json.load(sys.stdin)
    limits = Limits(**request["limits"])
    system.limit_this_process(limits.memory_bytes, limits.cpu_seconds)
    log, shape = ProblemLog(repair=request["repair"]), Shape()
    sender = _Sender(log, shape)
    config = DatasetConfig(**request["config"])
    try:
        for part, (path, name) in request["files"].items():
            sender.say({"begin": part})
            for _, conversation in read_files({part: (Path(path), name)}, config, log, limits, shape):
                sender.add(conversation)
            sender.flush()
        sender.flush(end=True)
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    except BrokenPipeError:
        os._exit(0)  # nobody reads any more


if __name__ == "__main__":
    main()
