"""The catalogue is whole: every text that the page can show has a Japanese one, with the same values in it."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

import phi3tune.ui
from phi3tune.paths import Workspace
from phi3tune.server.endpoint import Endpoints
from phi3tune.ui.page import create_ui
from phi3tune.ui.words import I18N
from recipes import words

PAGE = Path(phi3tune.ui.__file__).parent
# What Gradio shows of a component, and what of that it does not translate: it is sent when the page is loaded.
SHOWN = {"label", "info", "placeholder", "title"}
LATE = {"x_title", "y_title", "caption"}
# The same in every language: names of methods, formats, measures, packages and repositories, and signs.
NAMES = re.compile(
    r"curl|[A-Z0-9][\w.+/-]*|[a-z0-9]+([_-][a-z0-9]+)+|[a-z]*\d[\w.]*|[\w.-]+/[\w.-]+|\w+=\S+(\s\w+=\S+)*|[^A-Za-z]*"
)


def test_every_text_is_translated() -> None:
    left = words.missing(words.current())
    assert not left, f"{len(left)} texts have no Japanese, such as {left[:5]}: python -m recipes.words adds them"


def test_a_translation_has_the_values_of_its_text() -> None:
    for entry in words.current():
        if entry.id and entry.string:
            of = [Counter(re.findall(r"(?<!{){\w+}", str(text))) for text in (entry.id, entry.string)]
            assert set(of[0]) == set(of[1]), entry.id


def _literals() -> Iterator[tuple[str, int, str]]:
    """Texts that are handed to a component of Gradio as they are written."""
    for path in sorted(PAGE.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if not isinstance(node.func.value, ast.Name) or node.func.value.id != "gr":
                continue
            given = [item.value for item in node.keywords if item.arg in SHOWN | LATE]
            if node.func.attr in ("Button", "UploadButton", "Tab", "Accordion", "Info", "Warning", "Error", "Markdown"):
                given += node.args[:1]
            for value in given:
                if (text := words.template(value)) is not None:
                    yield path.name, node.lineno, text


def test_no_component_is_given_a_text_that_cannot_be_translated() -> None:
    plain = [place for place in _literals() if not NAMES.fullmatch(place[2].strip())]
    assert not plain, f"write t(...) around {plain}"


def _texts(component: dict[str, Any]) -> Iterator[str]:
    props = component["props"]
    yield from (str(props[name]) for name in SHOWN if isinstance(props.get(name), str))
    if component["type"] in ("button", "uploadbutton", "downloadbutton") and isinstance(props.get("value"), str):
        yield props["value"]
    if component["type"] in ("radio", "checkboxgroup"):
        # A single word is the name of a package or a module.
        yield from (str(name) for name, _ in props.get("choices") or [] if " " in str(name))


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> gr.Blocks:
    workspace = Workspace(tmp_path_factory.mktemp("page"))
    return create_ui(workspace, Endpoints(workspace))


def test_every_label_that_the_page_is_built_with_is_in_both_languages(demo: gr.Blocks) -> None:
    plain = set()
    for component in demo.get_config_file()["components"]:
        for text in _texts(component):
            if "__i18n__" not in text and not NAMES.fullmatch(text.strip()):
                plain.add((component["type"], text))
    assert not plain
    english, japanese = I18N.translations["en"], I18N.translations["ja"]
    assert len(english) > 300
    names = {entry.id for entry in words.current() if entry.id == entry.string}
    same = {text for key, text in english.items() if japanese[key] == text and not NAMES.fullmatch(text.strip())}
    assert not same - names, f"the same in Japanese: {same - names}"
