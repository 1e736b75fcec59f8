"""Repairs: what was most likely meant is read, every fault is told as a change, and no other way round."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from phi3tune.config import DatasetConfig
from phi3tune.data.files import LIMITS
from phi3tune.data.problems import Change, ProblemLog
from phi3tune.data.reading import Shape, read_files
from tests.data.conftest import chat, jsonl, parquet

_ROWS = [chat(n) for n in range(3)]
_GOOD = jsonl(_ROWS)
_SAME = [row["messages"] for row in _ROWS]
Chats = list[list[dict[str, str]]]


def _repair(
    folder: Path, name: str, content: str | bytes, *, repair: bool = True, **settings: Any
) -> tuple[Chats, list[Change], ProblemLog]:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    log = ProblemLog(repair=repair)
    rows = read_files({"all": (path, name)}, DatasetConfig(**settings), log, LIMITS, Shape())
    return [[{"role": m["role"], "content": m["content"]} for m in row.messages] for _, row in rows], log.changes, log


def _turns(text: str) -> dict[str, Any]:
    """`u:q a:a`: turns by the first letter of their role."""
    names = {"u": "user", "a": "assistant", "s": "system", "w": "wizard", "t": "tool"}
    return {"messages": [{"role": names[turn[0]], "content": turn[2:].replace("_", " ")} for turn in text.split()]}


_PRETTY = json.dumps(_ROWS, indent=1)


@pytest.mark.parametrize(
    ("name", "content", "code", "rows"),
    [
        ("a.jsonl", _GOOD.encode("utf-16"), "bad_encoding", _SAME),
        ("a.jsonl", _GOOD.encode("utf-16-be"), "bad_encoding", _SAME),
        ("a.json", _PRETTY.encode("utf-32"), "bad_encoding", _SAME),
        ("a.jsonl.gz", gzip.compress(_GOOD.encode("utf-16-le")), "bad_encoding", _SAME),
        ("a.jsonl", _GOOD.replace("is 1", "\0is 1\0"), "type_mismatch", _SAME),
        ("a.jsonl", _GOOD + "\ufeff" + _GOOD, "bad_encoding", _SAME * 2),
        ("a.jsonl", _PRETTY, "bad_json", _SAME),
        ("a.jsonl", json.dumps(_ROWS), "bad_shape", _SAME),
        ("a.jsonl", _GOOD + _GOOD[:50], "bad_json", _SAME),
        ("a.jsonl", _GOOD + "5\n", "bad_shape", _SAME),
        ("a.json", _GOOD, "bad_json", _SAME),
        ("a.json", _PRETTY[:-1] + ",]", "bad_json", _SAME),
        ("a.json", _PRETTY[:-1], "bad_json", _SAME),
        ("a.json", json.dumps({"rows": _ROWS}), "bad_shape", _SAME),
        ("a.json", json.dumps(_ROWS[0]), "bad_shape", _SAME[:1]),
        ("a.jsonl.gz", gzip.compress(_GOOD.encode())[:-8], "type_mismatch", _SAME),
        ("a.jsonl", _GOOD.replace('{"messages"', '{"a": NaN, "messages"', 1), "bad_number", _SAME),
        ("a.jsonl", _GOOD.replace('{"messages"', '{"a": 1e999, "messages"', 1), "bad_number", _SAME),
        ("a.jsonl", _GOOD.replace('{"messages"', '{"messages": 1, "messages"', 1), "duplicate_key", _SAME),
        ("a.jsonl", _GOOD + '{"a": ' + "[" * 500 + "]" * 500 + "}\n", "too_deep", _SAME),
        ("a.jsonl", _GOOD + '{"messages": []}\n', "bad_messages", _SAME),
        ("a.jsonl", _GOOD + '{"other": 1}\n', "missing_column", _SAME),
    ],
)
def test_a_file_is_read_as_it_was_meant(
    tmp_path: Path, name: str, content: str | bytes, code: str, rows: Chats
) -> None:
    found, changes, log = _repair(tmp_path, name, content)
    assert found == rows
    assert {change.code for change in changes} == {code}
    assert not log.errors
    unrepaired, nothing, log = _repair(tmp_path, name, content, repair=False)
    assert code in {problem.code for problem in log.errors}
    assert nothing == []
    assert unrepaired != rows or log.errors


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Où est la bibliothèque près d'ici ? Là, derrière la mairie à côté du café.", "cp1252"),
        ("Где находится библиотека и во сколько она открывается сегодня утром?", "cp1251"),
        ("図書館はどこにありますか。駅の近くにありますので、歩いて行けます。", "shift_jis"),
    ],
)
def test_an_encoding_is_named_and_converted(tmp_path: Path, text: str, encoding: str) -> None:
    row = {"question": text, "answer": text}
    content = (jsonl([row]) + jsonl([{"question": "q", "answer": "a"}])).encode(encoding)
    found, changes, _ = _repair(tmp_path, "a.jsonl", content)
    assert [turn["content"] for turn in found[0]] == [text, text]
    assert [(c.code, c.line) for c in changes] == [("bad_encoding", 1)]
    _, _, log = _repair(tmp_path, "a.jsonl", content, repair=False)
    assert [(p.code, p.line, "the text looks like" in p.found) for p in log.errors] == [("bad_encoding", 1, True)]


@pytest.mark.parametrize(
    ("row", "code", "meant"),
    [
        ("u:q u:more a:a", "role_order", "u:q\nmore a:a"),
        ("u:q a:a a:more", "role_order", "u:q a:a\nmore"),
        ("a:hello u:q a:a", "role_order", "u:q a:a"),
        ("s:s a:hello u:q a:a", "role_order", "s:s u:q a:a"),
        ("u:q s:s a:a", "role_order", "s:s u:q a:a"),
        ("s:s u:q a:a s:t", "role_order", "s:s\nt u:q a:a"),
        ("u:q a:a u:q", "no_target", "u:q a:a"),
        ("u:q w:a", "bad_role", None),
        ("u:q t:{} a:a", "unsupported_content", None),
        ("u:q a:", "empty_content", None),
        ("u:q a:a u:r a:", "empty_content", None),
        ("u: a:a", "empty_content", None),
        ("s:s u:q", "no_target", None),
        ("a:a", "no_target", None),
    ],
)
def test_a_chat_is_put_in_order_or_left_out(tmp_path: Path, row: str, code: str, meant: str | None) -> None:
    content = _GOOD + json.dumps(_turns(row)) + "\n" + _GOOD
    found, changes, log = _repair(tmp_path, "a.jsonl", content)
    expected = [] if meant is None else [[dict(turn) for turn in _in_words(meant)]]
    assert found == _SAME + expected + _SAME
    assert code in {change.code for change in changes}
    assert {(change.file, change.row, change.line) for change in changes} == {("a.jsonl", 3, 4)}
    assert not log.errors


def _in_words(meant: str) -> list[dict[str, str]]:
    names = {"u": "user", "a": "assistant", "s": "system"}
    return [{"role": names[turn[0]], "content": turn[2:]} for turn in meant.split(" ")]


@pytest.mark.parametrize(
    ("name", "content", "code", "answers"),
    [
        ("a.csv", "question;answer\nq, r;a\nq;b, c\n", "wrong_delimiter", ["a", "b, c"]),
        ("a.csv", '"question";"answer"\n"q";"a"\n', "wrong_delimiter", ["a"]),
        ("a.tsv", "question,answer\nq,a\n", "wrong_delimiter", ["a"]),
        ("a.csv", "What is this?,A lamp.\nAnd that?,A bulb.\n", "missing_header", ["A lamp.", "A bulb."]),
        ("a.csv", "question,answer\nq,a\nq\nq,b\n", "bad_csv", ["a", "b"]),
        ("a.csv", 'question,answer\nq,a\n"q,b\nq,c\n', "bad_csv", ["a", "c"]),
        ("a.csv", "input,target\nq,a\n", "missing_column", ["a"]),
        ("a.csv", "messages\n" + '"[{""from"": ""human"", ""value"": ""q""}, {""from"": ""gpt"", ""value"": ""a""}]"',
         "bad_messages", ["a"]),
        ("a.csv", "question,answer\nq,a\n,\nq,b\n", "empty_content", ["a", "b"]),
        ("a.csv", "question,answer\nq,é\n".encode("cp1252"), "bad_encoding", ["é"]),
        ("a.jsonl", '{"question": "q", "answer": "x\\ud800y"}', "bad_unicode", ["x\ufffdy"]),
        ("a.jsonl", '{"question": "q", "answer": "dÃ©jÃ vu, câ€™est vrai"}'.replace("Ã v", "Ã\xa0 v"), "mojibake",
         ["déjà vu, c’est vrai"]),
        ("a.jsonl", '{"question": "q", "answer": ' + "9" * 500 + "}", "bad_number", ["9" * 500]),
    ],
)  # fmt: skip
def test_tables_and_texts(tmp_path: Path, name: str, content: str | bytes, code: str, answers: list[str]) -> None:
    found, changes, log = _repair(tmp_path, name, content)
    assert [turns[-1]["content"] for turns in found] == answers
    assert {change.code for change in changes} == {code}
    assert not log.errors


def test_clean_text_is_not_touched(tmp_path: Path) -> None:
    texts = ["Ça va très bien – merci…", "Größe: 5 µm", "ñandú", "日本語", "Â", "naïve café", "🙂👍🏽"]
    rows = [{"question": text, "answer": text} for text in texts]
    found, changes, _ = _repair(tmp_path, "a.jsonl", jsonl(rows))
    assert [turns[0]["content"] for turns in found] == texts
    assert changes == []


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("a.jsonl", [b'{"text": "one"}', b'{"text": "tw\xe9"}', b'{"text": "th\0ree"}', b"[1]", b'{"text": "five"}']),
        ("a.jsonl", [b'{"text": "on\xe9"}', b'[{"text": "two"}, {"text": "2"}]', b'{"text": "three"}']),
        ("a.csv", [b"text", b"one", b"tw\xe9", b"three", b'"fo"ur', b"five"]),
        ("a.txt", [b"one", b"", b"tw\xe9", b"", b"three", b"thre\xe9", b"", b"four"]),
    ],
)
def test_rows_have_the_same_numbers_with_and_without_repairs(tmp_path: Path, name: str, lines: list[bytes]) -> None:
    path = tmp_path / name
    path.write_bytes(b"\n".join(lines))
    numbers = {}
    for repair in (False, True):
        log = ProblemLog(repair=repair)
        rows = read_files({"all": (path, name)}, DatasetConfig(), log, LIMITS, Shape())
        numbers[repair] = {row.reference: row.row for _, row in rows}
    assert numbers[False].items() < numbers[True].items()


def test_a_header_that_cannot_be_read_is_the_only_problem(tmp_path: Path) -> None:
    content = "question,answer,caf\xe9\nq,a,b\nc,d,e\n".encode("cp1252")
    found, _, log = _repair(tmp_path, "a.csv", content, repair=False)
    assert (found, [(p.code, p.line) for p in log.errors]) == ([], [("bad_encoding", 1)])
    found, changes, log = _repair(tmp_path, "a.csv", content)
    assert (len(found), [c.code for c in changes], log.errors) == (2, ["bad_encoding"], [])


def test_dropped_tool_rows_are_listed_one_by_one_in_a_repair(tmp_path: Path) -> None:
    content = _GOOD + json.dumps(_turns("u:q t:{} a:a")) + "\n"
    _, changes, log = _repair(tmp_path, "a.jsonl", content, unsupported="drop")
    assert [(c.code, c.row) for c in changes] == [("unsupported_content", 3)]
    assert not log.problems
    rows, _, log = _repair(tmp_path, "a.jsonl", content, unsupported="drop", repair=False)
    assert rows == _SAME
    assert [(p.code, p.severity, p.found[:6]) for p in log.problems] == [("unsupported_content", "warning", "1 rows")]


@pytest.mark.parametrize("name", ["a.pkl", "a.parquet", "a.csv", "b.csv"])
def test_what_nobody_can_guess_stays_an_error(tmp_path: Path, name: str) -> None:
    content = {
        "a.pkl": b"x",
        "a.parquet": parquet([{"question": "q", "answer": "a"}])[:-9],
        "a.csv": b"question,question\nq,a\n",
        "b.csv": b"17,18,19\n1,2,3\n",
    }[name]
    found, changes, log = _repair(tmp_path, name, content)
    assert (found, changes) == ([], [])
    assert len(log.errors) == 1
