"""The page's handlers as anybody reaches them: over HTTP, by what the app itself tells of them."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import httpx

SECONDS = 60.0


@dataclass(frozen=True)
class Input:
    """A component that a handler reads; `value` is what a page that was just opened would send."""

    id: int
    type: str
    elem_id: str
    value: Any
    props: dict[str, Any]


@dataclass(frozen=True)
class Handler:
    id: int
    name: str
    queued: bool
    inputs: tuple[Input, ...]

    @property
    def values(self) -> list[Any]:
        return [part.value for part in self.inputs]


class Stranger:
    """Somebody who reads `/config` and calls what is in it, in one session, as one who opened the page."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=SECONDS)
        self.session = uuid.uuid4().hex
        self.http.get("/")
        config = self.http.get("/config").json()
        self.components = {part["id"]: _input(part) for part in config["components"]}
        self._outputs = {one["id"]: one["outputs"] for one in config["dependencies"]}
        every = [one for one in config["dependencies"] if one["backend_fn"]]
        self._open(self._handler(next(one for one in every if one["api_name"] == "open")))
        self.handlers = [self._handler(one) for one in every]

    def _open(self, handler: Handler) -> None:
        """Take the choices that the page makes when a browser opens it."""
        told = json.loads(self.call(handler, handler.values))["data"]
        for number, update in zip(self._outputs[handler.id], told, strict=True):
            if isinstance(update, dict) and update.get("__type__") == "update":
                self.components[number] = replace(self.components[number], **_known(update))

    def _handler(self, one: dict[str, Any]) -> Handler:
        inputs = tuple(self.components[number] for number in one["inputs"])
        return Handler(one["id"], one["api_name"] or str(one["id"]), one["queue"] is not False, inputs)

    def distinct(self) -> list[Handler]:
        """Handlers that differ: many events call the same one with the same inputs. Gradio numbers their names."""
        named = {(re.sub(r"_\d+$", "", one.name), tuple(part.id for part in one.inputs)): one for one in self.handlers}
        return list(named.values())

    def named(self, name: str) -> Handler:
        """The first handler of a name."""
        return next(one for one in self.handlers if one.name == name)

    def call(self, handler: Handler, data: Sequence[Any], event: Any = None) -> str:
        """All that the app says to a call, as text."""
        body = {"fn_index": handler.id, "data": list(data), "session_hash": self.session, "event_data": event}
        if not handler.queued:
            return self._post("/gradio_api/run/predict", body).text
        joined = self._post("/gradio_api/queue/join", body)
        return joined.text if joined.is_error else joined.text + "".join(self._told())

    def _post(self, path: str, body: Any) -> httpx.Response:
        # Python's json writes NaN and Infinity as a stranger's would.
        return self.http.post(path, content=json.dumps(body), headers={"content-type": "application/json"})

    def _told(self) -> Iterator[str]:
        with self.http.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.session}) as stream:
            yield from (f"{line}\n" for line in stream.iter_lines())


def _known(update: dict[str, Any]) -> dict[str, Any]:
    return {"value": update["value"]} if "value" in update else {}


def _input(part: dict[str, Any]) -> Input:
    props = part.get("props", {})
    return Input(part["id"], part["type"], props.get("elem_id") or "", props.get("value"), props)
