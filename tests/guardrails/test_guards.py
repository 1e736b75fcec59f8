"""What guards find, and what becomes of the text."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from phi3tune import guardrails
from phi3tune.errors import ConfigError, UserError
from phi3tune.guardrails import Guards, Hit
from phi3tune.paths import Workspace

KEY = "hf_" + "aB3dE" * 7
CARD = "4111 1111 1111 1111"


def load(folder: Path, *entries: dict[str, Any]) -> Guards:
    path = folder / "guards.yaml"
    path.write_text(yaml.safe_dump(list(entries)))
    return guardrails.load(path, Workspace(folder))


def guard(type: str, action: str = "mask", **settings: Any) -> dict[str, Any]:
    return {"name": settings.pop("name", type), "type": type, "action": action, **settings}


def test_no_guards_pass_everything() -> None:
    guards = Guards(())
    verdict = guards.check_input([{"role": "user", "content": "Hi"}])
    assert (verdict.action, verdict.messages[0]["content"]) == ("pass", "Hi")
    assert list(guards.stream(["a", "b"])) == [("a", ()), ("b", ())]


@pytest.mark.parametrize(
    ("entry", "text", "masked", "what"),
    [
        (
            guard("block_list", words=["Big  Secret"]),
            "a big\nsecret, bigger secrets",
            "a [block_list], bigger secrets",
            "phrase",
        ),
        (guard("block_list", words=["C++", "c"]), "C++ and c and cc", "[block_list] and [block_list] and cc", "phrase"),
        (guard("block_list", words=["cat"], whole_words=False), "concatenate", "con[block_list]enate", "phrase"),
        (guard("block_list", words=["Cat"], ignore_case=False), "cat Cat", "cat [block_list]", "phrase"),
        (guard("regex", pattern=r"\b\d{3}-\d{4}\b"), "id 123-4567 or 12-3", "id [regex] or 12-3", "pattern"),
        (guard("secrets"), f"it is {KEY}.", "it is [secrets].", "api_key"),
        (guard("personal_data"), "to a.b@example.com today", "to [personal_data] today", "email_address"),
        (guard("personal_data"), f"card {CARD}!", "card [personal_data]!", "card_number"),
        (guard("personal_data"), "ring +44 20 7946 0018 now", "ring [personal_data] now", "phone_number"),
    ],
)
def test_places_are_masked(tmp_path: Path, entry: dict[str, Any], text: str, masked: str, what: str) -> None:
    verdict = load(tmp_path, entry).check_output(text)
    assert (verdict.action, verdict.text) == ("mask", masked)
    assert verdict.hits == (Hit(entry["name"], "mask", what),)


def test_a_private_key_is_masked_with_its_lines(tmp_path: Path) -> None:
    lines = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow+IBAAKC\nAQEA==\n-----END RSA PRIVATE KEY-----"
    guards = load(tmp_path, guard("secrets"))
    assert guards.check_output(f"see\n{lines}\nthere").text == "see\n[secrets]\nthere"
    assert guards.check_output(f"see {lines[:50]}").text == "see [secrets]"


def test_kinds_of_personal_data_are_chosen(tmp_path: Path) -> None:
    guards = load(tmp_path, guard("personal_data", kinds=["card_number"]))
    assert guards.check_output(f"a@example.com {CARD}").text == "a@example.com [personal_data]"


def test_the_strictest_action_counts_and_overlaps_are_masked_once(tmp_path: Path) -> None:
    guards = load(
        tmp_path,
        guard("regex", "flag", name="f", pattern="one"),
        guard("regex", name="m", pattern="two three"),
        guard("regex", name="n", pattern="three four"),
        guard("regex", "block", name="b", pattern="five", reply="Not here."),
    )
    verdict = guards.check_output("one two three four")
    assert (verdict.action, verdict.text, verdict.reason) == ("mask", "one [m]", "")
    blocked = guards.check_output("one five")
    assert (blocked.action, blocked.reason, blocked.blocked) == ("block", "Not here.", True)
    assert [hit.guard for hit in blocked.hits] == ["f", "b"]


def test_sides(tmp_path: Path) -> None:
    guards = load(tmp_path, guard("regex", pattern="a", on="input"), guard("regex", name="o", pattern="b", on="output"))
    messages = [{"role": "system", "content": "ab"}, {"role": "assistant", "content": "ab"}]
    verdict = guards.check_input(messages)  # type: ignore[arg-type]
    assert [message["content"] for message in verdict.messages] == ["[regex]b", "[regex]b"]
    assert len(verdict.hits) == 1
    assert guards.check_output("ab").text == "a[o]"


def test_a_hit_never_holds_the_text(tmp_path: Path) -> None:
    guards = load(tmp_path, guard("secrets", "block"), guard("block_list", "flag", words=["canary"]))
    verdict = guards.check_output(f"{KEY} canary")
    assert KEY not in repr(verdict.hits) + verdict.reason
    assert "canary" not in repr(verdict.hits)


@pytest.mark.parametrize(("on_error", "action"), [("block", "block"), ("pass", "flag")])
def test_an_endless_pattern_is_given_up(tmp_path: Path, on_error: str, action: str) -> None:
    guards = load(tmp_path, guard("regex", pattern="(a|aa)+b", time_limit=0.05, on_error=on_error))
    start = time.monotonic()
    verdict = guards.check_output("a" * 60 + "c")
    assert verdict.action == action
    assert "longer than 0.05 seconds" in verdict.hits[0].what
    assert time.monotonic() - start < 5
    pieces = list(guards.stream(["a" * 60, "c", "d"]))
    assert "".join(text for text, _ in pieces) == ("" if on_error == "block" else "a" * 60 + "cd")
    assert [hit.action for _, hits in pieces for hit in hits] == [action]


def test_many_messages_take_no_longer_than_a_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phi3tune.guardrails.guards._CHAT_SECONDS", 0.2)
    guards = load(tmp_path, guard("regex", pattern="(a|aa)+b", time_limit=10))
    start = time.monotonic()
    verdict = guards.check_input([{"role": "user", "content": "a" * 26 + "c"}] * 500)
    assert verdict.blocked
    assert "all messages together" in verdict.hits[0].what
    assert time.monotonic() - start < 10


# --- Streaming


@pytest.fixture(scope="module")
def streaming(tmp_path_factory: pytest.TempPathFactory) -> Guards:
    return load(
        tmp_path_factory.mktemp("guards"),
        guard("block_list", words=["bomb", "big bomb plan", "nuke"]),
        guard("regex", pattern=r"<[^<>]{1,20}>|(?<=x)y+(?!z)"),
        guard("personal_data"),
        guard("secrets"),
    )


# Digits that follow a number would make it another one.
PIECES = [
    *(
        "bomb",
        "big ",
        "bomb ",
        "plan",
        "nu",
        "ke",
        "<",
        "a>",
        ">",
        "x",
        "yy",
        "z",
        "@",
        "me@",
        "ex",
        "ample.com",
        ".de",
    ),
    *("call ", "+44 20 7946 0018;", "2029551234;", f"{CARD};", f"{CARD},5;", "12;", "hf_", KEY[3:20], KEY[20:]),
    *("-----BEGIN RSA PRIVATE KEY", "-----", "-----END RSA PRIVATE KEY-----", "aws key", "'"),
    *("\n", " ", ".", ",", "N", "é", "日本"),
]


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.lists(st.sampled_from(PIECES), max_size=14), st.data())
def test_a_stream_says_what_the_whole_text_says(streaming: Guards, words: list[str], data: st.DataObject) -> None:
    text = "".join(words)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=10)))
    chunks = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    whole = streaming.check_output(text)
    said = list(streaming.stream(chunks))
    assert "".join(piece for piece, _ in said) == whole.text
    assert {hit for _, hits in said for hit in hits} == set(whole.hits)


def test_what_stands_behind_a_number_is_waited_for(streaming: Guards) -> None:
    for ending, masked in ((",50", f"{CARD},50"), (", 50", "[personal_data], 50")):
        assert "".join(text for text, _ in streaming.stream([CARD, *ending])) == masked


def test_only_what_may_become_a_hit_is_held_back(streaming: Guards) -> None:
    from phi3tune.guardrails import OutputFilter

    output = OutputFilter(streaming)
    assert output.feed("The plan is ").text == "The plan is "
    assert output.feed("a bo").text == "a "
    assert output.feed("y").text == ""  # it may become an address
    assert output.feed(" sco").text == "boy "
    assert output.feed("ut.").text == ""
    assert output.finish().text == "scout."


def test_nothing_follows_a_block(tmp_path: Path) -> None:
    guards = load(tmp_path, guard("regex", "block", pattern="stop here"))
    said = list(guards.stream(iter(["go on ", "st", "op he", "re", "never"])))
    assert [text for text, _ in said] == ["go on ", ""]
    assert said[-1][1] == (Hit("regex", "block", "pattern"),)


# --- Settings


def test_every_mistake_in_a_file_is_told(tmp_path: Path) -> None:
    entries = [
        {"name": "a", "type": "regexp"},
        {"name": "b", "type": "regex", "pattern": "(", "action": "mask"},
        {"name": "b", "type": "regex", "pattern": "x*"},
        {"name": "c", "type": "regex"},
        {"name": "d", "type": "secrets", "action": "drop", "colour": 1},
        {"type": "secrets"},
        {"name": "e", "type": "block_list"},
        {"name": "f", "type": "classifier", "model": "nobody", "labels": ["x"]},
        "text",
    ]
    path = tmp_path / "guards.yaml"
    path.write_text(yaml.safe_dump(entries))
    with pytest.raises(ConfigError) as caught:
        guardrails.load(path, Workspace(tmp_path))
    told = "\n".join(caught.value.problems)
    for expected in (
        "guard 1: type 'regexp' is not accepted; types are: block_list, regex, secrets, personal_data, classifier",
        "guard 2: it cannot be read as a regular expression",
        "guard 3: it matches the empty text",
        "guard 3: the name 'b' is taken",
        "guard 4: pattern is missing",
        "guard 5: action 'drop' is not accepted",
        "guard 5: 'colour' is not a setting; the settings are: name, type, on",
        "guard 6: name is missing",
        "guard 7: it has 0 phrases",
        "guard 8: ",
        "guard 9 is no table",
    ):
        assert expected in told, told


def test_a_file_as_people_write_it(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("forbidden thing\n\nother\n")
    path = tmp_path / "guards.yaml"
    path.write_text("guards:\n- name: words\n  type: block_list\n  on: input\n  action: block\n  file: words.txt\n")
    guards = guardrails.load(path, Workspace(tmp_path))
    assert guards.names == ["words"]
    assert guards.check_input([{"role": "user", "content": "a Forbidden thing"}]).blocked
    assert not guards.check_output("a forbidden thing").hits


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [", "is no YAML"),
        ("- ", "no table"),
        ("", "must hold a list"),
        ("a: 1", "must hold a list"),
        ("[]", "1 to 100"),
    ],
)
def test_files_that_are_none(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "guards.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=told):
        guardrails.load(path, Workspace(tmp_path))
    with pytest.raises(UserError, match="does not exist"):
        guardrails.load(tmp_path / "none.yaml", Workspace(tmp_path))


def test_the_example_of_the_docs(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "monitor.md").read_text()
    [example] = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    path = tmp_path / "guards.yaml"
    path.write_text(example)
    guards = guardrails.load(path, Workspace(tmp_path))
    assert (
        guards.check_input([{"role": "user", "content": "Project Falcon?"}]).reason == "We do not talk about that here."
    )
    assert guards.check_output(f"ORD-123456 {KEY} a@example.com").text == "ORD-123456 [secrets] [personal data]"
