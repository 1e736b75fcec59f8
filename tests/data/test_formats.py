"""Row shapes: what is read from each, and why a row is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from phi3tune.config import DatasetConfig
from phi3tune.data import DataError, formats
from phi3tune.errors import UserError
from tests.data.conftest import Load, Problems, chat, jsonl, parquet


def _turns(*pairs: tuple[Any, Any]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in pairs]}


def _read(row: dict[str, Any], **columns: str) -> list[tuple[str, str]]:
    detected = formats.detect(list(row), "auto", columns)
    assert detected is not None
    return [(m["role"], m["content"]) for m in formats.convert(row, detected[1])]


@pytest.mark.parametrize(
    ("format", "row"),
    [
        ("messages", _turns(("user", " q "), ("assistant", "a\n"))),
        ("messages", _turns(("Human", [{"type": "text", "text": "q"}]), ("bot", ["a"]))),
        ("sharegpt", {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}),
        ("alpaca", {"instruction": "q", "input": "", "output": "a"}),
        ("alpaca", {"instruction": "q", "input": None, "output": "a", "system": float("nan")}),
        ("prompt_completion", {"prompt": "q", "completion": "a"}),
        ("prompt_completion", {"prompt": "q", "response": "a"}),
        (
            "prompt_completion",
            {"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "a"}]},
        ),
        ("question_answer", {"question": "q", "answer": "a", "other": 5}),
        ("messages", {"messages": [{"from": "prompter", "value": "q"}, {"role": "model", "content": ["a"]}]}),
    ],
)
def test_each_shape_is_detected_and_read(format: str, row: dict[str, Any]) -> None:
    detected = formats.detect(list(row), "auto", {})
    assert detected is not None
    assert detected[0] == format
    assert _read(row) == [("user", "q"), ("assistant", "a")]


def test_alpaca_with_all_its_columns() -> None:
    row = {
        "instruction": "Translate.",
        "input": "Haus",
        "output": "house",
        "system": "Be brief.",
        "history": [["Hi", "Hello"]],
    }
    assert _read(row) == [
        ("system", "Be brief."),
        ("user", "Hi"),
        ("assistant", "Hello"),
        ("user", "Translate.\nHaus"),
        ("assistant", "house"),
    ]


def test_plain_text_is_one_message() -> None:
    assert formats.detect(["text", "url"], "auto", {}) == ("text", {"text": "text"})
    assert _read({"text": " once upon\n"}) == [("text", "once upon")]
    assert _read({"body": "once upon", "title": "t"}, text="body") == [("text", "once upon")]


def test_a_text_file_is_its_paragraphs(load: Load) -> None:
    content = "\r\n \nOne\r\nline.\r\n\r\n\r\nTwo.\r\n\t\r\nThree."
    dataset = load("a.txt", content, validation_share=0.0, test_share=0.0)
    assert (dataset.format, dataset.mapping) == ("text", {"text": "text"})
    assert [(c.messages, c.row, c.line) for c in dataset.conversations] == [
        (({"role": "text", "content": "One\nline."},), 0, 3),
        (({"role": "text", "content": "Two."},), 1, 7),
        (({"role": "text", "content": "Three."},), 2, 9),
    ]


@pytest.mark.parametrize(
    ("row", "suggested"),
    [
        ({"id": 5, "input": "q", "target": "a"}, {"user": "input", "assistant": "target"}),
        ({"Question": "q", "Answer": "a"}, {"user": "Question", "assistant": "Answer"}),
        ({"query": "q", "response": "a", "context": "c"}, {"user": "query", "assistant": "response"}),
        ({"text": "q", "label": "a"}, {"user": "text", "assistant": "label"}),
        ({"frage": "q", "antwort": "a"}, {"user": "frage", "assistant": "antwort"}),
        ({"reply": "a", "mail": "q"}, {"user": "mail", "assistant": "reply"}),
        ({"log": [{"from": "human", "value": "q"}], "id": "x"}, {"messages": "log"}),
        ({"document": "d", "year": 5}, {"text": "document"}),
        ({"a": "x", "b": "y", "c": "z"}, {}),
        ({"a": 1, "b": 2}, {}),
        ({}, {}),
    ],
)
def test_a_mapping_is_suggested_where_no_format_fits(row: dict[str, Any], suggested: dict[str, str]) -> None:
    assert formats.suggest(row) == suggested


def test_a_suggestion_is_part_of_the_problem(problems: Problems) -> None:
    found = problems("a.jsonl", jsonl([{"input": "q", "target": "a"}] * 3))
    assert [p.code for p in found] == ["missing_column"]
    assert "--columns user=input,assistant=target" in found[0].fix


def test_a_system_column_leads_a_chat_and_a_blank_system_turn_is_none() -> None:
    turns = _turns(("user", "q"), ("ai", "a"))
    assert _read({**turns, "system": "s"})[0] == ("system", "s")
    assert _read({**turns, "system": " "})[0] == ("user", "q")
    assert _read(_turns(("system", " "), ("user", "q"), ("ai", "a"))) == [("user", "q"), ("assistant", "a")]


def test_chosen_columns() -> None:
    row = {"frage": "q", "antwort": "a", "rolle": "s", "messages": []}
    assert _read(row, user="frage", assistant="antwort", system="rolle") == (
        [("system", "s"), ("user", "q"), ("assistant", "a")]
    )
    row = {"q": "and now?", "a": "now", "extra": "e", "before": [["q", "a"]], "thread": "t"}
    turns = _read(row, user="q", assistant="a", input="extra", history="before", group="thread")
    assert turns == [("user", "q"), ("assistant", "a"), ("user", "and now?\ne"), ("assistant", "now")]
    assert _read({"log": _turns(("user", "q"), ("gpt", "a"))["messages"]}, messages="log")[1] == ("assistant", "a")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"frage": "a", "assistant": "b"}, "'frage' is not accepted"),
        ({"user": "a"}, "both user and assistant"),
        ({"messages": "a", "user": "b", "assistant": "c"}, "must name either"),
        ({"text": "a", "messages": "b"}, "must name either"),
        ({"system": "a"}, "must name either"),
    ],
)
def test_bad_column_settings_are_the_users_mistake(load: Load, columns: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load("a.jsonl", jsonl([chat(1)]), columns=columns)
    assert not isinstance(caught.value, DataError)


def test_a_mapped_column_must_exist_and_those_found_are_listed(problems: Problems) -> None:
    found = problems("a.jsonl", jsonl([chat(1)]), columns={"user": "ask", "assistant": "reply"})
    assert [p.code for p in found] == ["missing_column"]
    assert "messages" in found[0].found
    assert "'ask' and 'reply'" in found[0].expected


def test_a_chosen_format_is_not_guessed_again(problems: Problems) -> None:
    row = {"question": "q", "answer": "a", "instruction": "i", "output": "o"}
    assert [p.code for p in problems("a.jsonl", jsonl([row]), format="messages")] == ["missing_column"]
    detected = formats.detect(list(row), "question_answer", {})
    assert detected is not None
    assert detected[1] == {"user": "question", "assistant": "answer"}


def test_columns_may_be_missing_from_the_first_row(load: Load) -> None:
    rows: list[Any] = [{"instruction": f"say {n}", "output": "a"} for n in range(5)]
    rows[3]["input"] = "loudly"
    dataset = load("a.jsonl", jsonl(rows))
    assert dataset.mapping == {"user": "instruction", "assistant": "output", "input": "input"}
    assert {c.messages[0]["content"] for c in dataset.conversations} >= {"say 3\nloudly", "say 4"}


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"text": "x"}, "missing_column"),
        ({**chat(1), "images": ["x.png"]}, "unsupported_content"),
        ({"messages": "x"}, "bad_messages"),
        ({"messages": None}, "bad_messages"),
        ({"messages": ["x"]}, "bad_messages"),
        ({"messages": []}, "bad_messages"),
        (_turns(("wizard", "x"), ("assistant", "a")), "bad_role"),
        ({"messages": [{"content": "x"}]}, "bad_role"),
        ({"messages": [{"role": 5, "content": "x"}]}, "bad_role"),
        (_turns(("user", "q")), "no_target"),
        (_turns(("user", "q"), ("assistant", "a"), ("user", "q")), "no_target"),
        (_turns(("user", "q"), ("user", "q"), ("assistant", "a")), "role_order"),
        (_turns(("assistant", "a"), ("user", "q"), ("assistant", "a")), "role_order"),
        (_turns(("user", "q"), ("system", "s"), ("assistant", "a")), "role_order"),
        (_turns(("user", "q"), ("assistant", None)), "empty_content"),
        (_turns(("user", "q"), ("assistant", " \n")), "empty_content"),
        (_turns(("user", ""), ("assistant", "a")), "empty_content"),
        (_turns(("user", [{"type": "image_url", "image_url": {}}]), ("assistant", "a")), "unsupported_content"),
        (_turns(("user", 5), ("assistant", "a")), "unsupported_content"),
        (_turns(("user", "q"), ("function_call", "{}"), ("observation", "1"), ("gpt", "a")), "unsupported_content"),
        ({"messages": [{"role": "assistant", "content": None, "tool_calls": [{}]}]}, "unsupported_content"),
        ({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 0}]},
         "unsupported_content"),
        (_turns(("user", "\ud800"), ("assistant", "a")), "bad_unicode"),
    ],
)  # fmt: skip
def test_each_bad_row_is_refused_at_its_place(problems: Problems, row: dict[str, Any], code: str) -> None:
    content = jsonl([chat(n) for n in range(4)]) + json.dumps(row) + "\n"
    assert [(p.code, p.line) for p in problems("a.jsonl", content)] == [(code, 5)]
    rows = [chat(n) for n in range(4)]
    document = "[\n" + ",\n".join(json.dumps(r) for r in [*rows, row]) + "\n]"
    assert [(p.code, p.line) for p in problems("a.json", document)] == [(code, 6)]


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"instruction": "", "output": "a"}, "empty_content"),
        ({"instruction": "q", "output": None}, "empty_content"),
        ({"instruction": "q", "output": 5}, "unsupported_column"),
        ({"instruction": "q", "input": {"a": 1}, "output": "a"}, "unsupported_column"),
        ({"instruction": "q", "output": "a", "history": "x"}, "bad_messages"),
        ({"instruction": "q", "output": "a", "history": [["only one"]]}, "bad_messages"),
        ({"output": "a"}, "missing_column"),
    ],
)
def test_each_bad_alpaca_row_is_refused(problems: Problems, row: dict[str, Any], code: str) -> None:
    rows = [{"instruction": f"q{n}", "output": "a"} for n in range(4)]
    assert [(p.code, p.line) for p in problems("a.jsonl", jsonl([*rows, row]))] == [(code, 5)]


def test_a_row_without_a_line_is_named_by_its_number(problems: Problems) -> None:
    rows = [{"question": f"q{n}", "answer": "a"} for n in range(3)]
    found = problems("a.parquet", parquet([*rows, {"question": "q", "answer": ""}]))[0]
    assert found.line is None
    assert "(row 3)" in found.found


def test_odd_parquet_types_are_refused_not_guessed(problems: Problems) -> None:
    import io
    from datetime import date

    import pyarrow as pa
    import pyarrow.parquet as pq

    stream = io.BytesIO()
    pq.write_table(pa.table({"question": ["q"], "answer": [date(2024, 1, 1)]}), stream)
    found = problems("a.parquet", stream.getvalue())
    assert [p.code for p in found] == ["unsupported_column"]
    assert "type date" in found[0].found


def test_reserved_tokens_and_unused_tools_only_warn(load: Load) -> None:
    rows = [chat(n) for n in range(6)]
    rows[2]["messages"][0]["content"] = "What does <|end|> mean?"
    rows[4]["tools"] = '[{"name": "f"}]'
    rows[5]["tools"] = "[]"
    dataset = load("a.jsonl", jsonl(rows))
    assert [(p.code, p.severity, p.line) for p in dataset.problems] == (
        [("reserved_token", "warning", 3), ("unsupported_content", "warning", None)]
    )
    assert "in 1 rows" in dataset.problems[1].found
    assert len(dataset.conversations) == 6


def test_tool_and_image_rows_are_dropped_on_request(load: Load) -> None:
    rows = [chat(n) for n in range(6)]
    rows[1]["messages"].insert(1, {"role": "tool", "content": "{}"})
    rows[2]["images"] = ["a.png"]
    rows[3]["images"] = []
    rows[4]["messages"][0]["content"] = [{"type": "image"}]
    dataset = load("a.jsonl", jsonl(rows), unsupported="drop")
    assert sorted(c.row for c in dataset.conversations) == [0, 3, 5]
    assert [(p.code, p.severity, p.found) for p in dataset.problems] == (
        [("unsupported_content", "warning", "3 rows with tool calls or images")]
    )


def test_every_format_of_the_settings_is_known() -> None:
    schema = DatasetConfig.model_json_schema()["properties"]["format"]["enum"]
    for name in schema:
        assert formats.expected_columns(name, {})
