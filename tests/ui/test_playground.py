"""The playground's handlers, called as a browser or a stranger's script would call them."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from phi3tune import data, jobs, presets, votes
from phi3tune.config import HostedConfig, PromptsConfig, SamplingConfig, arguments
from phi3tune.engines.base import Chunk, Request, Usage
from phi3tune.engines.models import ModelRef
from phi3tune.paths import Workspace
from phi3tune.server import snippets
from phi3tune.ui import (
    playground,
    playground_code,
    playground_engines,
    playground_examples,
    playground_prompts,
    playground_settings,
)
from phi3tune.ui.dialogue import SIDES, Dialogue
from tests.fake_openai import fake_openai

FORM = list(SamplingConfig().model_dump().values())
FORM_STOP = playground_settings.FIELDS.index("stop")
GUARDS = """
- {name: mail, type: personal_data, on: input, action: mask}
- {name: wand, type: block_list, on: output, action: block, words: [abracadabra]}
"""


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


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> FakePool:
    fake = FakePool()
    monkeypatch.setattr(playground_engines, "pool", lambda: fake)
    return fake


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


@pytest.fixture
def visitor(workspace: Workspace, pool: FakePool) -> Visitor:
    return Visitor(workspace)


def test_both_panes_answer_one_message(visitor: Visitor) -> None:
    visitor.do("ask", "<b>Hello</b>", "all", *visitor.models, *visitor.form)
    assert visitor.seen["composer"] == "" and visitor.seen["stop-answer"].visible
    seen = visitor.answer()
    assert "It is phi3-nano" in seen["pane-left"]
    assert "&lt;b&gt;Hello" in seen["pane-left"]
    assert "no-such-model" in seen["pane-right"] and "does not exist" in seen["pane-right"]
    assert "50.0 tok/s" in seen["stats-left"]
    assert seen["send"].visible and not seen["stop-answer"].visible


def test_one_after_the_other_is_done_by_the_first(visitor: Visitor, pool: FakePool) -> None:
    visitor.models = ["phi3-nano"] * 3
    visitor.in_turn = True
    visitor.do("ask", "Hello", "all", *visitor.models, *visitor.form)
    visitor.do("answer_right", True, "none", "")
    assert len(pool.prompts) == 2 or not pool.prompts
    visitor.answer()
    assert len(pool.prompts) == 2 and not visitor.said.busy


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"text": " \n "}, "Write a message first"),
        ({"models": ["", "phi3-nano", ""]}, "Choose a model for the left pane"),
        ({"form": ["", 9.0, *FORM[2:]]}, "Temperature"),
    ],
)
def test_a_mistake_is_told_and_nothing_begins(change: dict[str, Any], told: str, visitor: Visitor) -> None:
    visitor.models, visitor.form = change.get("models", visitor.models), change.get("form", visitor.form)
    with pytest.raises(gr.Error, match=told):
        visitor.ask(change.get("text", "Hi"))
    assert not visitor.said.busy and not visitor.said.begun


def test_a_third_model_on_request(visitor: Visitor) -> None:
    seen = visitor.do("open_third", True)
    assert [value for _, value in seen["send-to"].choices] == ["all", *SIDES]
    visitor.models = ["phi3-nano"] * 3
    assert "It is phi3-nano" in visitor.ask("Hi")["pane-third"]
    seen = visitor.ask("Only you", "third")
    assert "Only you" in seen["pane-third"] and "Only you" not in seen["pane-left"]


def test_edit_continue_and_branches_by_their_buttons(visitor: Visitor) -> None:
    visitor.ask("one")
    visitor.ask("two")
    assert visitor.press("edit", 0, "right")["composer"] == "one"
    assert "Cancel" in visitor.seen["difference"]
    visitor.press("cancel-edit")
    assert visitor.said.editing is None
    visitor.press("continue", 1)
    assert "two" not in visitor.seen["pane-left"] and "Branch 2 of 2" in visitor.seen["difference"]
    assert "two" in visitor.press("branch", 0)["pane-left"]


@pytest.mark.parametrize(
    ("act", "place"), [("format-disk", 1), ("edit", "../../x"), ("edit", -1), ("branch", 99), ("vote", "A")]
)
def test_what_a_stranger_presses_is_refused(act: str, place: object, visitor: Visitor) -> None:
    visitor.ask("one")
    with pytest.raises(gr.Error):
        visitor.press(act, place)


def test_the_exact_prompt_is_shown(visitor: Visitor) -> None:
    visitor.form[0] = "Be brief."
    visitor.ask("Where is the lamp?")
    html = visitor.press("prompt", 1)["prompt-detail"]
    for piece in ("&lt;|system|&gt;", "&lt;|user|&gt;", "&lt;|assistant|&gt;"):
        assert piece in html
    with pytest.raises(gr.Error, match="does not exist"):
        visitor.press("prompt", 1, "right")


def test_a_blind_vote_from_the_first_message_to_the_tally(visitor: Visitor, tmp_path: Path) -> None:
    from phi3tune.paths import NANO

    visitor.models = ["phi3-nano", str(NANO), ""]
    visitor.do("hide_names", True)
    seen = visitor.ask("Hi")
    assert "Model A" in seen["pane-left"] and ">phi3-nano" not in seen["pane-left"]
    with pytest.raises(gr.Error, match="hidden"):
        visitor.press("prompt", 1)
    chosen = visitor.said.drawn["left"]
    seen = visitor.press("vote", "A")
    assert f"A was {chosen}" in seen["difference"] and "1 of 1 decided votes" in seen["difference"]
    [record, _] = votes.tally(visitor.workspace).models
    assert (record.model, record.share.wins) == (chosen, 1)
    assert "Win rate" in seen["vote-tally"]


def test_blind_mode_begins_with_an_empty_chat(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    warned: list[str] = []
    monkeypatch.setattr(gr, "Warning", warned.append)
    visitor.ask("one")
    assert visitor.do("hide_names", True)["blind"] is False
    assert not visitor.said.blind and warned


def test_a_corrected_answer_becomes_a_row_of_a_new_version(visitor: Visitor) -> None:
    visitor.form[0] = "Be brief."
    visitor.ask("Where is the lamp?")
    seen = visitor.press("correct", 1)
    assert seen["corrected"] == "It is phi3-nano"
    place = seen["State"]
    seen = visitor.do("save", place, "On the shelf.", "lantern-support")
    info = data.stored.find_dataset(seen["dataset"]["value"], visitor.workspace)
    assert info is not None and info.title == "lantern-support (version 2)"
    assert (info.title, info.id) in seen["eval-dataset"]["choices"]
    last = (info.path / "train.jsonl").read_text().splitlines()[-1]
    assert [message["content"] for message in json.loads(last)["messages"]] == [
        "Be brief.", "Where is the lamp?", "On the shelf.",
    ]  # fmt: skip
    with pytest.raises(gr.Error, match="Choose a dataset"):
        visitor.do("save", place, "On the shelf.", "/etc/passwd")


def test_settings_of_each_pane_and_presets(visitor: Visitor, pool: FakePool) -> None:
    warm = ["Be warm.", 0.7, *FORM[2:]]
    turn_to = visitor.handlers["turn_to"].fn
    turn_to(visitor.said, "left", *FORM)
    shown = turn_to(visitor.said, "right", *warm)
    assert list(shown.values())[:2] == ["", 0.0]
    visitor.models = ["phi3-nano"] * 3
    visitor.ask("Hi")
    left, right = (visitor.said.panes[side].turns[-1].asked for side in SIDES[:2])
    assert left is not None and right is not None and (left.system, right.system) == ("Be warm.", "")
    assert pool.prompts[0] != pool.prompts[1]
    keep, fill, forget = (visitor.handlers[name].fn for name in ("keep", "fill", "forget"))
    keep("Warm", *warm)
    assert presets.load("Warm", visitor.workspace).temperature == 0.7
    assert list(fill("Warm").values())[:2] == ["Be warm.", 0.7]
    forget("Warm")
    assert presets.names(visitor.workspace) == []


def test_guards_mask_what_goes_in_and_block_what_comes_out(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = visitor.workspace.root / "guards"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text(GUARDS)
    assert playground_engines.guard_files(visitor.workspace) == ["mine.yaml"]
    given: list[Any] = []

    def spell(ref: Any, messages: Any, config: Any, key: str, cancelled: Any) -> Iterator[Chunk]:
        given.extend(messages)
        yield Chunk("Say abra", (1,))
        yield Chunk("cadabra now", (2,), "stop", Usage(1, 0, 2, 0.1, 9.0))

    monkeypatch.setattr(playground_engines, "_chunks", spell)
    visitor.guards = "mine.yaml"
    visitor.models = ["phi3-nano"] * 3
    seen = visitor.ask("Write to ada@example.com")
    assert "ada@example.com" not in given[-1]["content"]
    assert "mail masked: email_address" in seen["pane-left"] and "wand blocked" in seen["pane-left"]
    assert "cadabra" not in seen["pane-left"]
    visitor.guards = "../../mine.yaml"
    visitor.do("clear")
    assert "Choose guards from the list" in visitor.ask("Hi")["pane-left"]


def test_an_endpoint_answers_with_the_typed_key_only(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-this-machine")
    with fake_openai() as fake:
        visitor.models = [f"{fake.address}#fake-model", "phi3-nano", ""]
        assert "said: Hi" in visitor.ask("Hi")["pane-left"]
        visitor.key = "sk-typed"
        visitor.ask("Hi again", "left")
        assert [headers["authorization"] for headers in fake.headers] == ["Bearer none", "Bearer sk-typed"]
        html = visitor.press("prompt", 1)["prompt-detail"]
    assert "You said" not in html and "&quot;content&quot;: &quot;Hi&quot;" in html


def test_what_the_browser_keeps_is_shown_again(visitor: Visitor) -> None:
    visitor.ask("one")
    kept = visitor.seen["BrowserState"]
    other = Visitor(visitor.workspace)
    assert "It is phi3-nano" in other.do("restore", kept)["pane-left"]
    visitor.press("edit", 0)
    visitor.ask("uno")
    again = Visitor(visitor.workspace)
    assert "Branch 2 of 2" in again.do("restore", visitor.seen["BrowserState"])["difference"]
    assert "one" in again.press("branch", 0)["pane-left"]
    assert len(other.said.branches) == 1, "nothing was lost that a branch would keep"
    assert Visitor(visitor.workspace).do("restore", "{")["BrowserState"] == "", "what cannot be read is forgotten"
    assert visitor.do("clear")["BrowserState"] == ""


def test_a_file_is_imported_and_what_is_none_refused(visitor: Visitor, tmp_path: Path) -> None:
    path = tmp_path / "row.json"
    path.write_text(json.dumps({"messages": [{"role": r, "content": r.upper()} for r in ("user", "assistant")]}))
    visitor.ask("one")
    seen = visitor.do("import_chat", str(path))
    assert "ASSISTANT" in seen["pane-left"] and "Branch 2 of 2" in seen["difference"]
    path.write_text("{}")
    with pytest.raises(gr.Error, match="no conversation"):
        visitor.do("import_chat", str(path))


def test_many_prompts_are_a_job_with_the_chosen_models(
    visitor: Visitor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs.actions, "dispatch", lambda workspace: None)
    file = tmp_path / "prompts.txt"
    begin = visitor.handlers["begin"].fn
    with pytest.raises(gr.Error, match="Choose a file"):
        begin(None, visitor.said, *visitor.models, *visitor.form)
    file.write_text("one\ntwo\n")
    visitor.models = ["phi3-nano", "phi3-nano", ""]
    begin(str(file), visitor.said, *visitor.models, "Be brief.", *visitor.form[1:])
    job = playground_prompts.newest(visitor.workspace)
    assert job is not None and job.state == "queued"
    config = jobs.read_config(job.folder)
    assert isinstance(config, PromptsConfig)
    assert (config.models, config.system) == (["phi3-nano"], "Be brief.")
    assert Path(config.prompts).read_text() == "one\ntwo\n"
    lines = [
        {"row": 0, "model": "phi3-nano", "messages": [{"role": "user", "content": "one"}], "answer": "<1>"},
        {
            "row": 1,
            "model": "phi3-nano",
            "messages": [{"role": "user", "content": "two"}],
            "answer": None,
            "error": "long",
        },
    ]
    (job.folder / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    html = playground_prompts.status(job)
    assert "&lt;1&gt;" in html and "no answer: long" in html and "2 prompts" in html


def test_a_loading_model_is_told_with_its_share(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = playground_engines.models.resolve("phi3-nano", visitor.workspace)
    assert playground_engines.waiting_for(ref) == ("loading the model", 0.5)


def test_a_slow_stream_says_that_nothing_came_and_hands_on_its_error() -> None:
    import threading

    go = threading.Event()

    def chunks() -> Iterator[Chunk]:
        go.wait(10)
        yield Chunk("a", ())
        raise ZeroDivisionError

    found = playground_engines.patient(chunks())
    assert next(found) is None
    go.set()
    assert next(chunk for chunk in found if chunk is not None).text == "a"
    with pytest.raises(ZeroDivisionError):
        next(found)


def test_an_answer_knows_whose_request_it_is() -> None:
    from contextvars import ContextVar

    request: ContextVar[str] = ContextVar("request")
    request.set("of one visitor")
    [chunk] = [found for found in playground_engines.patient(Chunk(request.get(), ()) for _ in "1") if found]
    assert chunk.text == "of one visitor"


def test_every_setting_of_an_answer_is_on_the_form(workspace: Workspace) -> None:
    assert list(SamplingConfig.model_fields) == playground_settings.FIELDS


def test_a_vote_with_names_in_sight_is_kept_and_told_apart(visitor: Visitor) -> None:
    from phi3tune.paths import NANO

    visitor.models = ["phi3-nano", str(NANO), ""]
    assert "The left one is better" in visitor.ask("Hi")["difference"]
    seen = visitor.press("vote", "B")
    assert f"You preferred {NANO}" in seen["difference"] and "Which answer" not in seen["difference"]
    found = votes.tally(visitor.workspace)
    assert (found.votes, found.named, found.models[0].model) == (1, 1, str(NANO))
    assert "names in sight" in seen["vote-tally"]
    with pytest.raises(gr.Error, match="A vote needs"):
        visitor.press("vote", "A")
    other = Visitor(visitor.workspace)
    assert "You preferred" in other.do("restore", seen["BrowserState"])["difference"]


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
    path = data.stored.find_dataset("lantern-support", visitor.workspace).path / "test.jsonl"
    held_out = [json.loads(line)["messages"][-2]["content"] for line in path.read_text().splitlines()]
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
