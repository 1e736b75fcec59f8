"""A visitor of the playground in tests: its handlers called as a browser calls them, over engines that only echo."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from phi3tune.config import HostedConfig, SamplingConfig
from phi3tune.engines.base import Chunk, Request, Usage
from phi3tune.engines.models import ModelRef
from phi3tune.paths import Workspace
from phi3tune.server import snippets
from phi3tune.ui import playground, playground_settings
from phi3tune.ui.dialogue import SIDES, Dialogue

FORM = list(SamplingConfig().model_dump().values())
FORM_STOP = playground_settings.FIELDS.index("stop")


class FakePool:
    """Answers with the model's name and how much it was given, word by word."""

    def __init__(self) -> None:
        self.prompts: list[int] = []

    def state(self, ref: ModelRef) -> str:
        return "not loaded"

    def progress(self, ref: ModelRef) -> float | None:
        return 0.5

    def stream(self, ref: ModelRef, request: Request, cancelled: Callable[[], bool]) -> Iterator[Chunk]:
        self.prompts.append(len(request.prompt_ids))
        for word in ("It", " is", f" {ref.label}"):
            yield Chunk(word, (1,))
        yield Chunk("", (), "stop", Usage(len(request.prompt_ids), 0, 3, 0.02, 50.0))


class FakeEndpoints:
    """An endpoint that serves `models`, or none."""

    def __init__(self, *models: str) -> None:
        self.url = "http://127.0.0.1:9/v1" if models else None
        self.models, self.keyed, self.asked = models, True, 0

    def state(self) -> FakeEndpoints:
        self.asked += 1
        return self

    def snippets(self, url: str, model: str, asked: dict[str, Any] | None = None) -> dict[str, str]:
        return snippets(url, model, asked=asked)


class Visitor:
    """One browser at the playground: its dialogue, its pickers and its form."""

    def __init__(self, workspace: Workspace, rules: HostedConfig | None = None) -> None:
        self.workspace = workspace
        with gr.Blocks() as demo:
            datasets = [gr.Dropdown([], elem_id=name) for name in ("dataset", "eval-dataset")]
            tab = playground.build(rules)
            self.endpoints: Any = FakeEndpoints()
            playground.connect(tab, datasets, lambda trigger: None, demo.load, workspace, self.endpoints)
        self.demo = demo
        self.handlers = {fn.name: fn for fn in demo.fns.values()}
        self.said = Dialogue()
        self.models = ["phi3-nano", "no-such-model", ""]
        self.form = list(FORM)
        self.in_turn, self.guards, self.key = False, "none", ""
        self.seen: dict[str, Any] = {}

    def do(self, name: str, *given: Any) -> dict[str, Any]:
        """Call a handler; what it changed, by the element's id. `seen` is what the page shows."""
        result = self.handlers[name].fn(self.said, *given)
        for updates in result if inspect.isgenerator(result) else [result]:
            self.seen |= {
                getattr(part, "elem_id", None) or type(part).__name__: value for part, value in updates.items()
            }
        return self.seen

    def ask(self, text: str, to: str = "all") -> dict[str, Any]:
        self.do("ask", text, to, *self.models, *self.form)
        return self.answer()

    def answer(self) -> dict[str, Any]:
        for side in SIDES:
            self.do(f"answer_{side}", self.in_turn, self.guards, self.key)
        return self.do("ended")

    def press(self, act: str, place: object = "", side: str = "left") -> dict[str, Any]:
        return self.do(f"press_{side}", gr.EventData(None, {"act": act, "place": str(place)}))
