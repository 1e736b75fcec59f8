"""What is added to the HTML of the page before Gradio's part of it runs."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from pathlib import Path
from typing import Any

import gradio
import pytest

from phi3tune.ui.opening import TEXTS, Opening, completed

HTML = (Path(gradio.__file__).parent / "templates" / "frontend" / "index.html").read_bytes()


def asked(path: str = "/", **headers: str) -> tuple[dict[str, list[str]], bytes]:
    """Headers and body that a browser gets of an app that answers with Gradio's page and two cookies."""
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        told = [(b"content-type", b"text/html; charset=utf-8"), (b"content-length", str(len(HTML)).encode())]
        cookies = [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
        await send({"type": "http.response.start", "status": 200, "headers": [*told, *cookies]})
        await send({"type": "http.response.body", "body": HTML[:100], "more_body": True})
        await send({"type": "http.response.body", "body": HTML[100:]})

    async def send(message: Any) -> None:
        sent.append(message)

    async def nothing() -> Any:
        raise AssertionError("a GET has no body")

    given = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
    scope = {"type": "http", "method": "GET", "path": path, "headers": given}
    asyncio.run(Opening(app)(scope, nothing, send))
    found: dict[str, list[str]] = {}
    for name, text in sent[0]["headers"]:
        found.setdefault(name.decode(), []).append(text.decode())
    return found, b"".join(message["body"] for message in sent[1:])


@pytest.mark.parametrize("language", ["en", "ja"])
def test_gradios_page_has_places_for_all_of_it(language: str) -> None:
    page = completed(HTML, language).decode()
    assert re.search(r"<html[^>]*\blang=\"(\w+)\"", page, re.DOTALL)[1] == language  # type: ignore[index]
    # Before every script of Gradio, which asks for the browser's language when it starts.
    assert page.index("phi3tune_language") < page.index("gradio_config")
    assert page.index('class="pt-skip"') < page.index('id="pt-opening"') < page.index("<gradio-app")
    texts = json.loads(re.search(r"const TEXTS = (\{.*\});", page)[1])  # type: ignore[index]
    assert texts.keys() == TEXTS.keys()
    assert (texts == TEXTS) is (language == "en")


def test_the_page_is_sent_in_the_language_asked_for_and_compressed_where_that_is_taken() -> None:
    headers, body = asked(accept_language="en", cookie="phi3tune_language=ja", accept_encoding="gzip, br")
    assert headers["content-length"] == [str(len(body))]
    assert headers["set-cookie"] == ["a=1", "b=2"]
    assert gzip.decompress(body) == completed(HTML, "ja")
    headers, body = asked(accept_language="de")
    assert "content-encoding" not in headers
    assert body == completed(HTML, "en")


def test_other_paths_are_left_as_they_are() -> None:
    assert asked("/config", accept_encoding="gzip") == (
        {
            "content-type": ["text/html; charset=utf-8"],
            "content-length": [str(len(HTML))],
            "set-cookie": ["a=1", "b=2"],
        },
        HTML,
    )
