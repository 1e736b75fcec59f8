"""A file of JSON lines that grows while a job works, and from which an interrupted job goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class Transcript:
    """Lines already there are in `kept`; a last line that was cut off is removed from the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.kept: list[dict[str, Any]] = []
        if not path.is_file():
            return
        data = path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            with path.open("r+b") as stream:
                stream.truncate(len(whole))
        self.kept = [json.loads(line) for line in whole.decode("utf-8").split("\n") if line]

    def append(self, lines: Iterable[dict[str, Any]]) -> None:
        """Add lines; they are on the disk when this returns."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        with self._path.open("ab") as stream:
            stream.write(text.encode("utf-8", "surrogatepass"))
            stream.flush()
            os.fsync(stream.fileno())
