"""The catalogue of the page's texts: `python -m recipes.words` adds what is new in the code to `locale/ja.po`.

Texts of the page are found by their calls (`t`, `N`, `in_browser`, `counted`), those of settings in the config, and
messages from below the page as what is said there in words, with `{0}`, `{1}`... for what they name.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator

from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po, write_po

from phi3tune.paths import PACKAGE
from phi3tune.ui import forms
from phi3tune.ui.words import CATALOGUE, MESSAGE

PAGE = PACKAGE / "ui"
MARKERS = {"t": 0, "N": 0, "in_browser": 0, "counted": 1}
# What never reaches the page: files that are written in English, the terminal, the endpoint's own protocol.
ELSEWHERE = {
    "ui", "cli", "server", "export/card.py", "export/public.py", "evaluation/markdown.py", "evaluation/html.py",
    "evaluation/harness.py", "doctor.py", "guardrails/patterns.py", "data/audit/safety_rows.py", "evaluation/safety.py",
    "data/audit/leftovers.py", "training/launcher.py",
}  # fmt: skip
WORDS = 3
# Long literals that nobody reads: queries, patterns, commands, what models are asked, lists of words, log lines.
_NOT_SAID = re.compile(
    r"(CREATE|ALTER) TABLE|SELECT |INSERT |UPDATE |DELETE FROM|PRAGMA|ORDER BY|CASE WHEN|:since"
    r"|contents\.request|AS tokens"
    r"|\\[bwds]|\(\?|^<|--- |pip install|^You |^Which answer|^List the days|^the a an |^agent answer |%d|no attribute"
)


def of_page() -> Iterator[str]:
    """Every text that the page itself says.

    Raises `ValueError` for a text that is no literal and so cannot be found.
    """
    for path in sorted(PAGE.rglob("*.py")):
        if path.name == "words.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = _called(node)
            if name not in MARKERS or not isinstance(node, ast.Call) or len(node.args) <= MARKERS[name]:
                continue
            given = node.args[MARKERS[name]]
            if isinstance(given, ast.JoinedStr) and path.name != "render.py":  # which makes the plurals of `counted`
                raise ValueError(f"{path.name}:{node.lineno}: a text must be plain, with named values")
            if isinstance(given, ast.Constant):
                yield f"{{n}} {given.value}s" if name == "counted" else given.value
    yield from forms.texts()


def from_below() -> Iterator[str]:
    """Every message of the levels below the page, as a template."""
    from phi3tune.evaluation.compare import in_sentence
    from phi3tune.evaluation.metrics import METRICS

    yield from (in_sentence(metric) for metric in METRICS.values())
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if name in ELSEWHERE or name.split("/")[0] in ELSEWHERE:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        inner = {id(part) for node in ast.walk(tree) for part in _parts(node)}
        for node in ast.walk(tree):
            text = template(node) if id(node) not in inner else None
            if text is not None and _is_said(said := text.strip("; \n")):
                yield said


def template(node: ast.AST) -> str | None:
    """A literal text, with `{0}`, `{1}`... for the values in it; None for anything else."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if not isinstance(node, ast.JoinedStr):
        return None
    found, count = "", 0
    for part in node.values:
        if isinstance(part, ast.Constant):
            found += str(part.value).replace("{", "{{").replace("}", "}}")
        else:
            found, count = f"{found}{{{count}}}", count + 1
    return found


def _called(node: ast.AST) -> str:
    function = node.func if isinstance(node, ast.Call) else None
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _parts(node: ast.AST) -> Iterator[ast.AST]:
    """What is inside of a text with values, docstrings, and sentences of settings: no messages of their own."""
    if isinstance(node, ast.JoinedStr) or _called(node) == "setting":
        yield from (part for part in ast.walk(node) if part is not node)
    elif isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and node.body:
        first = node.body[0]
        if isinstance(first, ast.Expr):
            yield first.value


def _is_said(text: str) -> bool:
    own = re.sub(r"\{\d+\}", "", text)
    return text.count(" ") + 1 >= WORDS and sum(map(str.isalpha, own)) >= 10 and not _NOT_SAID.search(text)


def template_catalogue() -> Catalog:
    """All texts, not translated."""
    catalogue = Catalog(project="phi3tune", charset="utf-8")
    for text in dict.fromkeys(of_page()):
        catalogue.add(text)
    for text in dict.fromkeys(from_below()):
        catalogue.add(text, context=MESSAGE)
    return catalogue


def current() -> Catalog:
    """The catalogue as it is in the repository."""
    with CATALOGUE.open("rb") as stream:
        return read_po(stream, locale="ja")


def missing(catalogue: Catalog) -> list[tuple[str | None, str]]:
    """Context and English of every text that has no Japanese."""
    have = {(entry.context, entry.id) for entry in catalogue if entry.string}
    wanted = [(entry.context, str(entry.id)) for entry in template_catalogue() if entry.id]
    return [entry for entry in wanted if entry not in have]


def update() -> Catalog:
    """Add what is new to the catalogue and drop what is gone."""
    catalogue = current()
    catalogue.update(template_catalogue(), no_fuzzy_matching=True)
    catalogue.obsolete.clear()
    with CATALOGUE.open("wb") as stream:
        write_po(stream, catalogue, width=120, sort_output=True, no_location=True, ignore_obsolete=True)
    return catalogue


if __name__ == "__main__":
    left = missing(update())
    sys.stdout.write(f"{CATALOGUE}: {len(left)} texts wait to be translated\n")
