"""Texts in the language of whoever reads them."""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

import gradio as gr
import pytest
from gradio.context import LocalContext

from phi3tune.ui import words
from phi3tune.ui.language import of_request
from phi3tune.ui.words import building, localise, recognised, t

JAPANESE = {"Start": "開始", "{n} rows": "{n} 行", "Don't stop": "止めないで", "Step": "ステップ"}


@pytest.fixture(autouse=True)
def catalogue(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    entries: dict[Any, str] = {(None, key): text for key, text in JAPANESE.items()}
    entries["message", "run {0} is gone: {1}"] = "実行 {0} がありません: {1}"
    entries["message", "its folder was deleted by hand"] = "フォルダーが手で削除されました"
    for function in (words.catalogue, words._templates, words.recognised):
        function.cache_clear()
    monkeypatch.setattr(words, "_entries", lambda: entries)
    yield
    for function in (words.catalogue, words._templates, words.recognised):
        function.cache_clear()


@pytest.fixture
def japanese() -> Iterator[None]:
    class Request:
        headers = MappingProxyType({"accept-language": "ja-JP,ja;q=0.9,en;q=0.5"})

    token = LocalContext.request.set(Request())  # type: ignore[arg-type]
    yield
    LocalContext.request.reset(token)


@pytest.mark.parametrize(
    ("headers", "language"),
    [
        ({}, "en"),
        ({"accept-language": "ja"}, "ja"),
        ({"accept-language": "de-DE,ja;q=0.9"}, "en"),
        ({"accept-language": "ja", "cookie": "phi3tune_language=en"}, "en"),
        ({"accept-language": "en", "cookie": "a=b; phi3tune_language=ja"}, "ja"),
        ({"accept-language": "en", "cookie": "phi3tune_language=<script>"}, "en"),
    ],
)
def test_the_language_of_a_request(headers: dict[str, str], language: str) -> None:
    assert of_request(headers) == language


def test_a_handler_speaks_english_outside_of_a_request() -> None:
    assert t("{n} rows", n=3) == "3 rows"
    assert words.told("run a-1 is gone: no file") == "run a-1 is gone: no file"


@pytest.mark.usefixtures("japanese")
def test_a_handler_speaks_the_language_of_its_request() -> None:
    assert t("{n} rows", n=3) == "3 行"
    assert t("not in the catalogue") == "not in the catalogue"


def test_a_message_is_recognised_by_its_template_and_what_is_inside_it_too() -> None:
    assert recognised("run a-1 is gone: its folder was deleted by hand") == (
        "実行 a-1 がありません: フォルダーが手で削除されました"
    )
    assert recognised("something else") == "something else"


def test_what_is_built_goes_to_gradios_i18n_in_both_languages() -> None:
    with building(), gr.Blocks() as demo:
        button = gr.Button(t("Start"))
        heading = gr.HTML(f"<h2>{words.escape(t('Don' + chr(39) + 't stop'))}</h2><p>{t('{n} rows', n=2)}</p>")
        choice = gr.Radio([(t("Start"), "start"), ("plain", "plain")], value="start")
        plot = gr.LinePlot(x="x", y="y", x_title=t("Step"))
        localise(demo)

    def both(marker: Any) -> tuple[str, str]:
        key = marker.split('"key": "')[1].rstrip('"}')
        return words.I18N.translations["en"][key], words.I18N.translations["ja"][key]

    assert both(button.value) == ("Start", "開始")
    assert both(heading.value) == (
        "<h2>Don&#x27;t stop</h2><p>2 rows</p>",
        "<h2>止めないで</h2><p>2 行</p>",
    )
    assert both(choice.choices[0][0]) == ("Start", "開始")
    assert choice.choices[1] == ("plain", "plain")
    # Gradio's page does not look there: it is sent when the page is loaded.
    assert plot.x_title == "Step"
    [load] = [fn for fn in demo.fns.values() if fn.outputs == [plot]]
    assert load.fn is not None
