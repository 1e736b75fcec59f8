from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from phi3tune import keys
from phi3tune.cli import main
from phi3tune.errors import UserError
from phi3tune.paths import Workspace


def test_a_key_is_known_until_it_is_revoked(workspace: Workspace) -> None:
    assert keys.list_keys(workspace) == []
    assert not workspace.database.exists()  # asking makes nothing
    first, second = keys.make("laptop", workspace), keys.make("phone", workspace)
    assert first != second and len(first) > 40
    assert keys.check(first, workspace) == "laptop"
    assert keys.check(second, workspace) == "phone"
    assert keys.check(first[:-1], workspace) is None
    keys.revoke("laptop", workspace)
    assert keys.check(first, workspace) is None
    assert [(key.name, key.revoked is None) for key in keys.list_keys(workspace)] == [
        ("laptop", False),
        ("phone", True),
    ]


def test_only_hashes_are_kept(workspace: Workspace) -> None:
    key = keys.make("laptop", workspace)
    with sqlite3.connect(workspace.database) as connection:
        [(name, kept, _, _)] = connection.execute("SELECT * FROM keys").fetchall()
    connection.close()
    assert (name, kept) == ("laptop", keys.digest(key))
    assert all(key.encode() not in file.read_bytes() for file in workspace.root.iterdir())


def test_mistakes_are_told(workspace: Workspace, tmp_path: Path) -> None:
    keys.make("laptop", workspace)
    for mistake in (
        lambda: keys.make("laptop", workspace),
        lambda: keys.make("../x", workspace),
        lambda: keys.revoke("phone", workspace),
        lambda: keys.Keys(workspace, tmp_path / "none.txt"),
    ):
        with pytest.raises(UserError):
            mistake()
    empty = tmp_path / "empty.txt"
    empty.write_text("# nothing\n\n")
    with pytest.raises(UserError, match="holds no key"):
        keys.Keys(workspace, empty)


def test_keys_of_a_file_are_named_by_their_line(workspace: Workspace, tmp_path: Path) -> None:
    file = tmp_path / "keys.txt"
    file.write_text("# ours\n  first \nsecond\n")
    known = keys.Keys(workspace, file)
    assert known.exist()
    assert [known.check(key) for key in ("first", "second", "# ours", "")] == ["keys.txt:2", "keys.txt:3", None, None]


def test_commands(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "make", "laptop"]) == 0
    key = capsys.readouterr().out.strip()
    assert keys.check(key, workspace) == "laptop"
    assert main(["keys", "list"]) == 0
    listed = capsys.readouterr().out
    assert "laptop" in listed and "in use" in listed and key not in listed
    assert main(["keys", "revoke", "laptop", "--json"]) == 0
    assert keys.check(key, workspace) is None
    assert main(["keys", "revoke", "laptop"]) == 2
    capsys.readouterr()
    assert main(["keys", "make"]) == 0
    unnamed = capsys.readouterr().out.strip()
    assert keys.check(unnamed, workspace) == "key-1"
    assert main(["keys", "revoke", unnamed]) == 0
    assert unnamed not in capsys.readouterr().err
    assert main(["keys", "make"]) == 0
    assert [key.name for key in keys.list_keys(workspace)] == ["laptop", "key-1", "key-2"]
