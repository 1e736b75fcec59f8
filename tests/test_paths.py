from __future__ import annotations

import json
from pathlib import Path

import pytest

from phi3tune import paths
from phi3tune.errors import UserError
from phi3tune.paths import Workspace


@pytest.mark.parametrize(
    "name",
    ["../x", "..", "a/../b", "/abs", "a\\b", "", "CON", "con.txt", "x" * 65, "-rf", ".hidden", "a b", "x;y", "é"],
)
def test_unsafe_names_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="not accepted"):
        paths.check_name(name)


@pytest.mark.parametrize("name", ["lamp-2", "A.b_c", "7", "x" * 64])
def test_safe_names_pass(name: str) -> None:
    assert paths.check_name(name) == name


def test_claimed_folders_get_numbers_and_their_files(workspace: Workspace) -> None:
    first = paths.claim_folder(workspace.runs, None, "My data!", {"run.yaml": "a: 1\n"})
    second = paths.claim_folder(workspace.runs, None, "My data!", {"run.yaml": "a: 2\n"})
    assert [first.name, second.name] == ["my-data-1", "my-data-2"]
    assert (second / "run.yaml").read_text() == "a: 2\n"
    assert [p.name for p in workspace.run_folders()] == ["my-data-1", "my-data-2"]


def test_a_wanted_name_is_given_once(workspace: Workspace) -> None:
    paths.claim_folder(workspace.runs, "lamp", "x", {"run.yaml": ""})
    with pytest.raises(UserError, match="exists already"):
        paths.claim_folder(workspace.runs, "lamp", "x", {"run.yaml": ""})
    assert [p.name for p in workspace.runs.iterdir()] == ["lamp"]


def test_an_unknown_run_names_the_known_ones(workspace: Workspace) -> None:
    paths.claim_folder(workspace.runs, "lamp", "x", {"run.yaml": ""})
    with pytest.raises(UserError, match="lamp"):
        workspace.run("lmap")


def test_a_new_folder_is_complete_or_absent(tmp_path: Path) -> None:
    final = tmp_path / "build"
    with pytest.raises(RuntimeError), paths.new_folder(final) as folder:
        (folder / "half.bin").write_bytes(b"half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []

    with paths.new_folder(final) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "weights.bin").write_bytes(b"whole")
    assert paths.manifest_problem(final) is None
    assert json.loads((final / paths.MANIFEST).read_text())["schema"] == 1


def test_replacing_a_folder_leaves_one(tmp_path: Path) -> None:
    final = tmp_path / "build"
    for text in ("old", "new"):
        with paths.new_folder(final) as folder:
            (folder / "a.txt").write_text(text)
    assert [p.name for p in tmp_path.iterdir()] == ["build"]
    assert (final / "a.txt").read_text() == "new"


@pytest.mark.parametrize("damage", ["flip", "delete", "truncate"])
def test_damage_is_seen(tmp_path: Path, damage: str) -> None:
    final = tmp_path / "build"
    with paths.new_folder(final) as folder:
        (folder / "w.bin").write_bytes(b"0123456789")
    target = final / "w.bin"
    match damage:
        case "flip":
            target.write_bytes(b"0123456780")
        case "delete":
            target.unlink()
        case "truncate":
            target.write_bytes(b"01234")
    assert "w.bin" in (paths.manifest_problem(final) or "")


def test_a_folder_without_manifest_is_not_trusted(tmp_path: Path) -> None:
    assert "manifest" in (paths.manifest_problem(tmp_path) or "")


def test_leftovers_are_swept(tmp_path: Path) -> None:
    (tmp_path / ".int4.tmp-1-abc").mkdir()
    (tmp_path / ".int4.tmp-1-abc" / "x").write_text("x")
    (tmp_path / "keep").mkdir()
    paths.sweep_temporary(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["keep"]


def test_an_artefact_that_was_about_to_be_replaced_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    final = tmp_path / "merged"
    with paths.new_folder(final) as folder:
        (folder / "a").write_text("old")
    rename, calls = Path.rename, []

    def killed_at_the_second(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", killed_at_the_second)
    with pytest.raises(KeyboardInterrupt), paths.new_folder(final) as folder:
        (folder / "a").write_text("new")
    monkeypatch.undo()
    assert not final.exists()
    paths.sweep_temporary(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["merged"]
    assert (final / "a").read_text() == "old" and paths.manifest_problem(final) is None


def test_a_link_out_of_the_workspace_is_outside(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    assert paths.inside(root / "a", root)
    assert not paths.inside(root / "link" / "a", root)
