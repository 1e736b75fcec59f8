"""The README is held against the tree, the requirements and the code."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_the_annotated_tree_is_the_tree() -> None:
    tree = section("Layout").split("```")[1]
    listed, folder = set(), ""
    for line in filter(str.strip, tree.splitlines()):
        name = line.split()[0]
        if line.startswith(" "):
            listed.add(folder + name)
        else:
            folder = name if name == "phi3tune/" else ""
            listed.add(name)
    for name in listed:
        path = ROOT / name
        assert path.is_dir() if name.endswith("/") else path.is_file(), f"{name} is in the README only"
    actual = {
        f"phi3tune/{path.name}{'/' if path.is_dir() else ''}"
        for path in (ROOT / "phi3tune").iterdir()
        if not path.name.startswith("__")
    }
    assert actual <= listed, f"not in the README: {actual - listed}"


def names(file: str) -> set[str]:
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    return {
        re.split(r"[=<>~]", line)[0].strip().lower().replace("_", "-") for line in lines if line and line[0].isalpha()
    }


def test_every_direct_dependency_is_explained_pinned_and_locked() -> None:
    table = section("Dependencies").lower().replace("_", "-")
    for file in ("requirements.txt", "requirements-dev.txt"):
        for line in (ROOT / file).read_text(encoding="utf-8").splitlines():
            assert line.startswith("-r ") or re.fullmatch(r"[\w.-]+==[\w.]+", line), line
        for name in names(file):
            assert re.search(rf"\b{re.escape(name)}\b", table), f"{name} is not in the dependency table"
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "+" not in lock and "@" not in lock
    assert names("requirements.txt") <= names("requirements.lock")


def test_the_space_runs_the_pinned_gradio() -> None:
    wanted = re.search(r"^sdk_version: (\S+)$", README, re.MULTILINE)
    assert wanted and f"gradio=={wanted[1]}\n" in (ROOT / "requirements.txt").read_text(encoding="utf-8")


def test_pictures_exist() -> None:
    for name in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README):
        assert (ROOT / name).is_file(), name
