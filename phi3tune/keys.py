"""API keys of endpoints: made once, told once, kept as hashes only.

A key is 256 random bits, so that one round of sha256 hides it as well as a slow password hash would.
"""

from __future__ import annotations

import hashlib
import itertools
import secrets
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

from phi3tune import hosted, store
from phi3tune.errors import UserError
from phi3tune.paths import Workspace, check_name

_PREFIX = "sk-"


@dataclass(frozen=True)
class Key:
    """A key that was made; times in seconds since 1970."""

    name: str
    created: float
    revoked: float | None


def make(name: str | None, workspace: Workspace) -> str:
    """A new key under a name of its own, by default the first free `key-N`. It is returned here and can never be read
    again.

    Raises `UserError` when the name is taken or cannot be one.
    """
    hosted.refuse_visitor(workspace, "an API key")
    taken = {key.name for key in list_keys(workspace)}
    if name is None:
        name = next(free for number in itertools.count(1) if (free := f"key-{number}") not in taken)
    check_name(name, "key name")
    key = _PREFIX + secrets.token_urlsafe(32)
    with store.keys(workspace.database) as table:
        try:
            table.execute("INSERT INTO keys VALUES (?, ?, ?, NULL)", (name, digest(key), time.time()))
        except sqlite3.IntegrityError:
            raise UserError(f"a key named {name!r} was made before; choose another name") from None
    return key


def list_keys(workspace: Workspace) -> list[Key]:
    """All keys that were made, oldest first, the revoked ones too."""
    return [Key(name, created, revoked) for name, _, created, revoked in _rows(workspace.database)]


def revoke(name: str, workspace: Workspace) -> str:
    """Make a key useless from now on, also where an endpoint runs; `name` is its name, or the key. Returns the name.

    Raises `UserError` when there is no such key in use.
    """
    name = check(name, workspace) or name
    with store.keys(workspace.database) as table:
        changed = table.execute(
            "UPDATE keys SET revoked = ? WHERE name = ? AND revoked IS NULL", (time.time(), name)
        ).rowcount
    if not changed:
        known = ", ".join(key.name for key in list_keys(workspace) if key.revoked is None) or "none"
        raise UserError(f"there is no key of that name to revoke; keys: {known}")
    return name


def check(key: str, workspace: Workspace) -> str | None:
    """The name of a key that is good; None for any other text."""
    return Keys(workspace).check(key)


class Keys:
    """The keys that an endpoint takes: those of the workspace as they are at each question, and those of a file.

    Raises `UserError` when the file cannot be read or holds no key.
    """

    def __init__(self, workspace: Workspace, file: Path | None = None) -> None:
        self._database = workspace.database
        self._of_file = _read(file) if file is not None else []

    def exist(self) -> bool:
        """Whether there is any key that is good."""
        return bool(self._of_file) or any(revoked is None for *_, revoked in _rows(self._database))

    def check(self, key: str) -> str | None:
        """The name of a key that is good; None for any other text. Takes as long for a wrong key as for a right one."""
        given = digest(key)
        good = [(name, known) for name, known, _, revoked in _rows(self._database) if revoked is None]
        matching = [name for name, known in (*good, *self._of_file) if secrets.compare_digest(known, given)]
        return matching[0] if matching else None


def digest(key: str) -> bytes:
    """What is kept of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def _rows(database: Path) -> list[tuple[str, bytes, float, float | None]]:
    """The table as it is; it is not made where no key ever was, because asking must not write."""
    if not database.exists():
        return []
    connection = sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=5)
    try:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'keys'").fetchone():
            return []
        return connection.execute("SELECT name, hash, created, revoked FROM keys ORDER BY created").fetchall()
    finally:
        connection.close()


def _read(file: Path) -> list[tuple[str, bytes]]:
    """Name and hash of each key in a file: one a line; empty lines and those that begin with # are none."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"--api-key-file {file} cannot be read: {error}; give a text file with one key a line"
        ) from None
    found = [
        (f"{file.name}:{number}", digest(line.strip()))
        for number, line in enumerate(lines, start=1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not found:
        raise UserError(f"--api-key-file {file} holds no key; write one key a line")
    return found
