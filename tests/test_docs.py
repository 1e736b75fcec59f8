"""The documentation is held against the code: commands, links, pictures, messages, tables."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from phi3tune import cli

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md"), *(ROOT / "deploy").glob("*.md"), *ROOT.glob("benchmarks/*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
END_OF_COMMAND = {"|", ";", "&", "&&", "||", ">", "<", "<<", "<<<", "#", "...", "…"}


def each_page() -> Any:
    return pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def commands(page: Path) -> Iterator[list[str]]:
    """Every `phi3tune ...` of a page, from its code blocks and its sentences, as words."""
    text = page.read_text(encoding="utf-8")
    lines = [line for _, block in FENCE.findall(text) for line in block.replace("\\\n", " ").splitlines()]
    lines += [line for line in prose(page).splitlines() if line.startswith("    ")]
    lines += re.findall(r"`(phi3tune [^`\n]+)`", prose(page))
    for line in lines:
        for part in re.findall(r"(?:^|[;&|] *|\$ )\s*phi3tune (.*)", line):
            lexer = shlex.shlex(re.sub(r"[\[\]]", "", part), posix=True, punctuation_chars=";&|<>")
            lexer.whitespace_split = True
            words = list(lexer)
            end = next((place for place, word in enumerate(words) if word in END_OF_COMMAND), len(words))
            yield words[:end]


@each_page()
def test_every_command_is_one_with_those_flags(page: Path) -> None:
    for words in commands(page):
        command, flags, before = typer.main.get_command(cli.root), {"--help", "--version"}, ""
        for word in words:
            told = f"phi3tune {' '.join(words)}: there is no {word}"
            group = hasattr(command, "get_command")
            if group and (found := command.get_command(None, word)) is not None:
                command = found
                flags = {"--help"}.union(*(each.opts + each.secondary_opts for each in command.params))
            elif word.startswith("--"):
                assert word.partition("=")[0] in flags, told
            else:
                assert not group or before.startswith("--"), told
            before = word


@cache
def headings(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@each_page()
def test_links_and_pictures_are_there(page: Path) -> None:
    for target in LINK.findall(prose(page)):
        if re.match(r"https?:|mailto:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.name} links to {target}"
        if anchor and file.suffix == ".md":
            assert anchor in headings(file), f"{page.name} links to {target}"


def test_no_page_and_no_picture_is_left_alone() -> None:
    index = {target.partition("#")[0] for target in LINK.findall(prose(DOCS / "README.md"))}
    assert {page.name for page in DOCS.glob("*.md")} - {"README.md"} <= index
    linked = {(page.parent / target).resolve() for page in PAGES for target in LINK.findall(prose(page))}
    assert set((DOCS / "images").iterdir()) <= linked


@each_page()
def test_python_in_the_docs_is_python(page: Path) -> None:
    for language, block in FENCE.findall(page.read_text(encoding="utf-8")):
        if language == "python":
            ast.parse(block)


@cache
def messages() -> list[str]:
    """Every text in the code, with … for what is put in."""
    found = []
    for file in (ROOT / "phi3tune").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def test_every_message_of_the_faq_is_one_of_ours() -> None:
    quoted = re.findall(r"^\*\*`(.+)`\*\*$", (DOCS / "faq.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(quoted) >= 15
    for message in quoted:
        pieces = [re.escape(piece.strip()) for piece in message.split("…") if piece.strip()]
        pattern = re.compile(".*".join(pieces), re.DOTALL)
        assert any(pattern.search(text) for text in messages()), message


def test_the_memory_table_is_the_plans() -> None:
    from benchmarks.gpu_memory import table

    assert table() in (DOCS / "gpu.md").read_text(encoding="utf-8"), "run: python -m benchmarks.gpu_memory"
