"""The playground's handlers, called as a browser or a stranger's script would call them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from phi3tune import data, jobs, presets, votes
from phi3tune.config import PromptsConfig, SamplingConfig
from phi3tune.engines.base import Chunk, Usage
from phi3tune.paths import Workspace
from phi3tune.ui import playground_engines, playground_prompts, playground_settings
from phi3tune.ui.dialogue import SIDES
from tests.fake_openai import fake_openai
from tests.ui.playground_visitor import FORM, FakePool, Visitor

GUARDS = """
- {name: mail, type: personal_data, on: input, action: mask}
- {name: wand, type: block_list, on: output, action: block, words: [abracadabra]}
"""


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> FakePool:
    fake = FakePool()
    monkeypatch.setattr(playground_engines, "pool", lambda: fake)
    return fake


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

    def spell(ref: Any, messages: Any, *rest: Any) -> Iterator[Chunk]:
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
