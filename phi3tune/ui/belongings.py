"""What Gradio keeps under names, and whose it is: sessions, events, uploads, and files in its cache.

Gradio gives anything to whoever knows its name. A name that leaks must not be enough.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from phi3tune import hosted
from phi3tune.ui.routes import API, UPLOAD

_MOST = 100_000  # names that are remembered, those used last
_LONGEST = 200
# Gradio's cache has a folder for each file, named by a keyed hash of what is in it.
_FOLDER = re.compile(r"[0-9a-fA-F]{64}")
_EVENT = f"{API}/queue/join"
_FILE_DATA = b"gradio.FileData"


class Belongings:
    """Whose every name is, since this process started: Gradio forgets them all when it ends."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache.resolve()
        self._owners: OrderedDict[str, str] = OrderedDict()
        # One file that two visitors have lies in one folder.
        self._files: OrderedDict[tuple[str, str], None] = OrderedDict()

    def claim(self, name: str, visitor: str) -> bool:
        """Whether a session's, an event's or an upload's name is the visitor's: that of nobody becomes theirs."""
        owner = self._owners.setdefault(name[:_LONGEST], visitor)
        self._owners.move_to_end(name[:_LONGEST])
        if len(self._owners) > _MOST:
            self._owners.popitem(last=False)
        return owner == visitor and len(name) <= _LONGEST

    def may_fetch(self, path: str, visitor: str) -> bool:
        """Whether a file was uploaded by the visitor, or handed to them."""
        try:
            inner = Path(path).resolve().relative_to(self._cache)
        except (OSError, ValueError):
            return False
        return len(inner.parts) == 2 and (visitor, inner.parts[0]) in self._files

    def may_name(self, text: str, visitor: str) -> bool:
        """Whether no file that `text` names is in the cache for others only."""
        named = {found.lower() for found in _FOLDER.findall(text)}
        return all((visitor, folder) in self._files or not (self._cache / folder).exists() for folder in named)

    def size(self, visitor: str) -> int:
        """Bytes of the visitor's files in the cache."""
        own = [folder for owner, folder in self._files if owner == visitor]
        return sum(hosted.folder_bytes(self._cache / folder) for folder in own)

    def handed_out(self, path: str, body: bytes, visitor: str) -> None:
        """Note what an answer gives to a visitor: the name of an event, files that were uploaded or made for them."""
        if path == _EVENT:
            told = _parsed(body)
            if isinstance(told, dict) and isinstance(told.get("event_id"), str):
                self.claim(told["event_id"], visitor)
        elif path == UPLOAD:
            told = _parsed(body)
            for file in told if isinstance(told, list) else []:
                self._give(file, visitor)
        elif _FILE_DATA in body:
            # Events are sent as lines `data: {...}`.
            for line in body.splitlines():
                for file in _files(_parsed(line.removeprefix(b"data: "))):
                    self._give(file, visitor)

    def _give(self, file: object, visitor: str) -> None:
        folder = Path(str(file)).parent.name
        if _FOLDER.fullmatch(folder):
            self._files[visitor, folder] = None
            if len(self._files) > _MOST:
                self._files.popitem(last=False)


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _files(value: Any) -> Iterator[str]:
    """Paths of the files in what a handler returned."""
    if isinstance(value, dict):
        meta = value.get("meta")
        if isinstance(meta, dict) and meta.get("_type") == _FILE_DATA.decode() and isinstance(value.get("path"), str):
            yield value["path"]
        for inner in value.values():
            yield from _files(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _files(inner)
