"""The playground's code to copy, its example questions, and what a visitor of a hosted app is not given."""

from __future__ import annotations

import json
from typing import Any

import gradio as gr
import pytest

from phi3tune import data
from phi3tune.config import HostedConfig, SamplingConfig, arguments
from phi3tune.paths import Workspace
from phi3tune.ui import playground_code, playground_engines, playground_examples
from tests.ui.playground_visitor import FORM_STOP, FakePool, Visitor


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> FakePool:
    fake = FakePool()
    monkeypatch.setattr(playground_engines, "pool", lambda: fake)
    return fake


@pytest.fixture
def visitor(workspace: Workspace, pool: FakePool) -> Visitor:
    return Visitor(workspace)


def show_code(visitor: Visitor, language: str, typed: str = "", side: str = "left") -> tuple[str, Any]:
    """What is told above the code, and the code."""
    shown = visitor.handlers["show"].fn(language, side, visitor.said, typed, *visitor.models, *visitor.form)
    where, code = shown.values()
    return where, code


def test_the_code_asks_what_would_be_asked_next(visitor: Visitor) -> None:
    visitor.form = list(
        SamplingConfig(system="Be brief.", temperature=0.5, top_k=9, stop=["END"]).model_dump().values()
    )
    visitor.form[FORM_STOP] = "END"
    where, code = show_code(visitor, "curl")
    assert "phi3tune serve phi3-nano" in where and playground_code.QUESTION in code.value
    visitor.ask("Where's the lamp?")
    body = json.loads(show_code(visitor, "curl")[1].value.split("-d '")[1].rstrip("'\n").replace("'\\''", "'"))
    assert [message["content"] for message in body["messages"]] == ["Be brief.", "Where's the lamp?"]
    settings = {name: body[name] for name in ("temperature", "max_tokens", "top_p", "seed", "top_k", "stop")}
    assert settings == {"temperature": 0.5, "max_tokens": 256, "top_p": 1.0, "seed": 0, "top_k": 9, "stop": ["END"]}
    code = show_code(visitor, "python", "And now?")[1]
    assert code.language == "python" and '{"role": "user", "content": "And now?"}' in code.value
    assert 'extra_body={"top_k": 9}' in code.value
    compile(code.value, "snippet", "exec")


def test_the_commands_give_the_same_answer_in_a_terminal(visitor: Visitor) -> None:
    import shlex

    config = SamplingConfig(system="It's brief.", temperature=0.5)
    visitor.form = list(config.model_dump().values())
    lines = show_code(visitor, playground_code.TERMINAL, "Hi\n'there'")[1].value.splitlines()
    assert shlex.split(lines[1]) == ["phi3tune", "chat", "phi3-nano", *arguments(config)]
    row = json.loads(shlex.split(lines[4])[2])
    assert [message["content"] for message in row["messages"]] == ["It's brief.", "Hi\n'there'"]
    assert shlex.split(lines[5]) == ["phi3tune", "prompts", "chat.jsonl", "phi3-nano", "--temperature", "0.5"]


def test_the_code_asks_the_endpoint_that_runs(visitor: Visitor) -> None:
    visitor.endpoints.__init__("phi3-nano")
    where, code = show_code(visitor, "curl")
    assert "serves phi3-nano at http://127.0.0.1:9/v1" in where and "http://127.0.0.1:9/v1/chat" in code.value
    visitor.models[0] = "https://models.example/v1#large"
    where, code = show_code(visitor, "javascript")
    assert not where and "https://models.example/v1" in code.value and '"large"' in code.value
    visitor.models[0] = "no-such-model"
    where, code = show_code(visitor, "curl")
    assert "does not exist" in where and not code.visible


def test_code_tells_no_hidden_name(visitor: Visitor) -> None:
    visitor.do("hide_names", True)
    where, code = show_code(visitor, "curl")
    assert "hidden until you vote" in where and not code.visible


def test_examples_are_held_out_questions(visitor: Visitor) -> None:
    [name, found] = playground_examples.examples(["phi3-nano", ""], "lantern-support", visitor.workspace)
    info = data.stored.find_dataset("lantern-support", visitor.workspace)
    assert info is not None
    rows = [json.loads(line) for line in (info.path / "test.jsonl").read_text().splitlines()]
    held_out = [row["messages"][-2]["content"] for row in rows]
    assert name == "lantern-support" and len(found) == playground_examples.MOST and set(found) <= set(held_out)
    html = visitor.handlers["questions"].fn("lantern-support", "phi3-nano", None)
    assert html.count('data-act="example"') == len(found)
    assert playground_examples.html(["phi3-nano"], "/etc/passwd", visitor.workspace) == ""


def test_an_example_is_asked_like_a_message(visitor: Visitor) -> None:
    assert visitor.handlers["example"].fn(gr.EventData(None, {"act": "example", "place": "Is it bright?"})) == (
        "Is it bright?"
    )
    names = [fn.name for fn in visitor.demo.fns.values()]
    assert names.count("ask") == 3, "Enter, Send, and an example"


def test_a_visitor_of_a_hosted_app_has_no_guards_and_no_keys(workspace: Workspace, pool: FakePool) -> None:
    visitor = Visitor(Workspace(workspace.root / "visitors" / "ada", workspace.root), HostedConfig())
    ids = {block.elem_id for block in visitor.demo.blocks.values()}
    assert {"composer", "preset"} <= ids and not {"guards", "endpoint-key"} & ids
    assert len(visitor.handlers["answer_left"].inputs) == 2
    visitor.endpoints.__init__("phi3-nano")
    where, _ = show_code(visitor, "curl")
    assert "On your own machine" in where and visitor.endpoints.asked == 0
    visitor.models[0] = "http://127.0.0.1:9/v1"
    visitor.do("ask", "Hi", "left", *visitor.models, *visitor.form)
    visitor.do("answer_left", False)
    assert "for the owner" in visitor.seen["pane-left"]
