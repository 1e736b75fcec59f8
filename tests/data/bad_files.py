"""Bad dataset files of every kind, each in several disguises, with the code and the place of its first problem."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from typing import Any

import zstandard

from phi3tune.data.files import LIMITS
from tests.data.conftest import chat, jsonl, parquet

_ROWS = [chat(n) for n in range(5)]
_GOOD = jsonl(_ROWS)
_CSV = "question,answer\n" + "".join(f"q{n},a{n}\n" for n in range(5))
SMALL = replace(LIMITS, line_bytes=2000, file_bytes=100_000, document_bytes=50_000, rows=100)
Case = tuple[str, str | bytes, str, int | None, int | None]


def _turns(*turns: tuple[Any, Any]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def _zip(name: str = "a.jsonl") -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, _GOOD)
    return stream.getvalue()


def _columns(**columns: Any) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    stream = io.BytesIO()
    pq.write_table(pa.table(columns), stream)
    return stream.getvalue()


def _bad_row(row: str, code: str, column: int | None = None) -> Iterator[Case]:
    """A row's text that is bad as the first, a middle and the last line, with and without CRLF, and packed."""
    for place in (1, 3, 6):
        lines = _GOOD.splitlines()
        lines.insert(place - 1, row)
        text = "\n".join(lines)
        yield "a.jsonl", text + "\n", code, place, column
        yield "a.jsonl", "\ufeff" + text, code, place, column
        yield "a.JSONL.gz", gzip.compress(text.replace("\n", "\r\n").encode()), code, place, column
        yield "a.jsonl.zst", zstandard.compress(text.encode()), code, place, column
        document = "[\n" + ",\n".join(lines) + "\n]"
        yield "a.json", document, code, place + 1, column
        yield "a.json.gz", gzip.compress(document.encode()), code, place + 1, column
        yield "a.json", f'{{"version": {{"data": 1}}, "data":\n{document}, "more": [1]}}', code, place + 2, column


def _bad_value(value: str, code: str) -> Iterator[Case]:
    """A JSON value that is bad in a column, in a turn, and in one that nobody uses."""
    turn = json.dumps(chat(9)["messages"])
    yield from _bad_row(f'{{"messages": {turn}, "other": {value}}}', code)
    yield from _bad_row(f'{{"messages": [{{"role": "user", "content": {value}}}]}}', code)
    yield "a.json", f'{{"data": [{{"a": {value}}}]}}', code, 1, None


def _bad_chat(row: dict[str, Any], code: str) -> Iterator[Case]:
    yield from _bad_row(json.dumps(row), code)
    if "messages" not in row:
        return
    shared = {"conversations": row["messages"]}
    if isinstance(row["messages"], list):
        shared["conversations"] = [
            {"from": turn.get("role"), "value": turn.get("content")} if isinstance(turn, dict) else turn
            for turn in row["messages"]
        ]
    good = [{"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}]
    yield "a.jsonl", "".join(json.dumps(each) + "\n" for each in [*good, shared]), code, 2, None
    yield "a.parquet", parquet([{"messages": json.dumps(1)}]), "bad_messages", None, None


def binary() -> Iterator[Case]:
    images = [
        b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
        b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(range(256)),
        b"GIF89a\1\2",
    ]
    packed = [gzip.compress(b"{}"), zstandard.compress(b"{}"), bz2.compress(b"{}"), lzma.compress(b"{}"), _zip()]
    others = [
        b"%PDF-1.7\n%\xe2\xe3",
        b"SQLite format 3\0" + bytes(100),
        b"7z\xbc\xaf\x27\x1c" + bytes(20),
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(20),
        *(pickle.dumps([1], protocol) for protocol in (2, 3, 4, 5)),
        parquet([{"question": "a", "answer": "b"}]),
        bytes(5000),
        bytes(range(256)) * 20,
        b"<!DOCTYPE html>\n<html><body>Sign in</body></html>",
        b"  <html>\n",
        b'<?xml version="1.0"?><rows/>',
    ]
    for content in (*images, *packed, *others):
        for name in ("a.jsonl", "a.json", "a.csv", "a.tsv"):
            yield name, content, "type_mismatch", None, None
    for content in (*images, *packed):
        yield "a.txt", content, "type_mismatch", None, None
        yield "a.parquet", content, "type_mismatch", None, None
        yield "a.jsonl.gz", gzip.compress(content), "type_mismatch", None, None
    for name in ("a.jsonl.gz", "a.json.zst", "a.csv.gz", "a.parquet"):
        yield name, _GOOD, "type_mismatch", None, None
    yield "a.csv", json.dumps(_ROWS), "type_mismatch", None, None
    yield "a.csv", _GOOD, "type_mismatch", None, None
    for whole, name in (
        (gzip.compress(_GOOD.encode()), "a.jsonl.gz"),
        (zstandard.compress(_GOOD.encode()), "a.jsonl.zst"),
    ):
        yield name, whole[:-20], "type_mismatch", None, None
    yield "a.jsonl.zst", b"(\xb5/\xfd", "type_mismatch", None, None


def empty() -> Iterator[Case]:
    blanks = (
        b"",
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"\xfe\xff",
        b"\xff\xfe\0\0",
        b"\0\0\xfe\xff",
        b"\n",
        b" \r\n\t\r\n",
        b"\xef\xbb\xbf\n\n",
    )
    for name in ("a.jsonl", "a.json", "a.csv", "a.tsv", "a.txt"):
        for content in blanks:
            yield name, content, "empty_file", None, None
            yield f"{name}.gz", gzip.compress(content), "empty_file", None, None
            yield f"{name}.zst", zstandard.compress(content), "empty_file", None, None
    yield "a.parquet", b"", "empty_file", None, None
    yield "a.parquet", _columns(question=[], answer=[]), "empty_file", None, None
    yield "a.json", "[ ]", "empty_file", None, None
    yield "a.json", '{"data": []}', "empty_file", None, None
    yield "a.csv", "question,answer\n", "empty_file", None, None
    yield "a.tsv", "\ufeffquestion\tanswer", "empty_file", None, None


def encodings() -> Iterator[Case]:
    document = json.dumps(_ROWS, indent=1)
    for name, text in (("a.jsonl", _GOOD), ("a.json", document), ("a.csv", _CSV), ("a.txt", "one\n\ntwo\n")):
        for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"):
            yield name, text.encode(encoding), "bad_encoding", 1, 1
            yield f"{name}.gz", gzip.compress(text.encode(encoding)), "bad_encoding", 1, 1
    for row in (
        b'{"a": "caf\xe9"}',
        b'{"a": "abc\x80"}',
        b'{"a": "abc\xed\xa0\x80"}',
        b'{"a": "ab\xc3"}',
        b'{"a":\xff1}',
    ):
        column = next(i for i, byte in enumerate(row) if byte > 0x7F) + 1
        for place in (1, 4, 6):
            lines = _GOOD.encode().splitlines()
            lines.insert(place - 1, row)
            yield "a.jsonl", b"\n".join(lines), "bad_encoding", place, column
            yield "a.jsonl", b"\xef\xbb\xbf" + b"\r\n".join(lines), "bad_encoding", place, column
            yield "a.json", b"[\n" + b",\n".join(lines) + b"]", "bad_encoding", place + 1, column
    yield "a.csv", "question,answer\nq,a\ncafé,a\n".encode("latin-1"), "bad_encoding", 3, 4
    yield "a.tsv", "question\tanswer\nq\té\n".encode("cp1252"), "bad_encoding", 2, 3
    yield "a.jsonl", _GOOD.encode("utf-8-sig") + _GOOD.encode("utf-8-sig"), "bad_encoding", 6, 1
    yield "a.parquet", _bad_utf8(), "bad_encoding", None, None


def _bad_utf8() -> bytes:
    good = _columns(question=["qqqqq"], answer=["a"])
    return good.replace(b"qqqqq", b"qq\xffqq")


def nul() -> Iterator[Case]:
    for place in (1, 3, 6):
        lines = _GOOD.splitlines()
        lines.insert(place - 1, '{"a": "x\0y"}')
        for end in ("\n", "\r\n"):
            yield "a.jsonl", end.join(lines), "type_mismatch", place, 9
        yield "a.json", "[\n" + ",\n".join(lines) + "]", "type_mismatch", place + 1, 9
        yield "a.jsonl.zst", zstandard.compress("\n".join(lines).encode()), "type_mismatch", place, 9
    yield "a.csv", _CSV + "q,\0\n", "type_mismatch", 7, 3
    yield "a.txt", "a\n\nb\0\n", "type_mismatch", 3, 2


def types() -> Iterator[Case]:
    for name in ("a.html", "a.pkl", "a.docx", "a.xlsx", "a.pt", "a.arrow", "a.xml", "a.md", "a.yaml", "a", "a."):
        yield name, _GOOD, "unsupported_type", None, None
    for packing in ("bz2", "xz", "zip", "7z", "lz4", "rar", "br", "Z"):
        yield f"a.jsonl.{packing}", _zip(), "unsupported_type", None, None
    yield "a.jsonl.gz.gz", gzip.compress(b""), "unsupported_type", None, None
    yield "a.parquet.gz", gzip.compress(b""), "unsupported_type", None, None


def json_syntax() -> Iterator[Case]:
    yield "a.jsonl", _GOOD + '{"messages": [', "bad_json", 6, 15
    yield "a.jsonl", _GOOD[:-20], "bad_json", 5, None
    yield "a.jsonl.gz", gzip.compress(_GOOD[:-3].encode()), "bad_json", 5, None
    yield "a.json", json.dumps(_ROWS, indent=1)[:-30], "bad_json", None, None
    for indent in (0, 1, 4):
        yield "a.jsonl", json.dumps(chat(1), indent=indent), "bad_json", 1, 1
        yield "a.jsonl", json.dumps(_ROWS, indent=indent), "bad_json", 1, 1
        yield "a.jsonl", "\n\n" + json.dumps(_ROWS, indent=indent), "bad_json", 3, 1
        yield "a.jsonl.zst", zstandard.compress(json.dumps(_ROWS, indent=indent).encode()), "bad_json", 1, 1
    yield "a.jsonl", "[" + ",\n".join(json.dumps(row) for row in _ROWS) + "]", "bad_json", 1, 1
    yield "a.json", _GOOD, "bad_json", 2, 1
    yield "a.json", '[{"a": 1},\n {"a": 2}\n {"a": 3}]', "bad_json", 3, 2
    yield "a.json", '[{"a": 1},\n {"a": }]', "bad_json", 2, 8
    yield "a.json", '[{"a": 1},\n', "bad_json", 2, 1
    yield "a.json", '[{"a": 1},\n]', "bad_json", 2, 1
    yield "a.json", '[{"a": 1}]\n[]', "bad_json", 2, 1
    yield "a.json", "nonsense", "bad_json", 1, 1
    yield "a.json", '{"data": [\n{"a": 1}]', "bad_json", 2, 10
    yield "a.json", '{"data": [\n{"a": 1}],\n "b": }', "bad_json", 3, 7
    yield "a.json", '{"b": nan, "data": [\n{"a": 1}]}', "bad_json", 1, 7
    yield "a.json", '{"data": [\n{"a": 1} {"a": 2}]}', "bad_json", 2, 10
    for row in ("{'a': 1}", '{"a": 1,}', "{a: 1}", '{"a": "b', '{"a": "tab\there"}', '{"a": 1} {"b": 2}', "x"):
        yield from _bad_row(row, "bad_json")
    yield "a.jsonl", _CSV, "bad_json", 1, 1


def shapes() -> Iterator[Case]:
    for scalar in ("1", '"text"', "null", "true", "3.5"):
        yield "a.json", scalar, "bad_shape", 1, None
        yield from _bad_row(scalar, "bad_shape")
    yield from _bad_row("[]", "bad_shape")
    yield from _bad_row('["q", "a"]', "bad_shape")
    yield "a.json", '{"rows": []}', "bad_shape", 1, None
    yield "a.json", json.dumps(chat(1)), "bad_shape", 1, None
    yield "a.jsonl", json.dumps(_ROWS), "bad_shape", 1, None


def numbers() -> Iterator[Case]:
    for value in ("NaN", "Infinity", "-Infinity", "9" * 5000, "-" + "1" * 101, "1e999", "-1e400"):
        yield from _bad_value(value, "bad_number")
    for depth in (200, 2000, 10_000, 100_000):
        yield from _bad_value("[" * depth + "]" * depth, "too_deep")
        yield from _bad_value('{"a":' * depth + "1" + "}" * depth, "too_deep")
    yield from _bad_row("[" * 10_000, "too_deep")
    yield from _bad_row('{"a":' * 10_000, "too_deep")
    yield "a.json", "[" * 10_000, "too_deep", 1, None
    yield "a.json", "[" * 10_000 + "]" * 10_000, "too_deep", 1, None
    yield from _bad_value('{"b": 1, "b": 2}', "duplicate_key")
    yield from _bad_row('{"messages": [], "messages": []}', "duplicate_key")
    yield from _bad_row('{"a": 1, "\\u0061": 2}', "duplicate_key")


def chats() -> Iterator[Case]:
    for half in ("\ud800", "a\udfffb", "\udc00\ud800"):
        yield from _bad_chat(_turns(("user", half), ("assistant", "a")), "bad_unicode")
        yield from _bad_chat(_turns(("user", "q"), ("assistant", half)), "bad_unicode")
    for value in ("text", None, 5, {"role": "user"}, True):
        yield from _bad_chat({"messages": value}, "bad_messages")
    for turns in (["text"], [None], [["user", "q"]], [], [{"role": "user", "content": "q"}, "a"]):
        yield from _bad_chat({"messages": turns}, "bad_messages")
    for role in ("wizard", "", None, 5, "users"):
        yield from _bad_chat(_turns((role, "q"), ("assistant", "a")), "bad_role")
        yield from _bad_chat(_turns(("user", "q"), (role, "a")), "bad_role")
    yield from _bad_row('{"messages": [{"content": "q"}]}', "bad_role")
    yield from _bad_chat(_turns(("user", "q")), "no_target")
    yield from _bad_chat(_turns(("system", "s"), ("user", "q")), "no_target")
    yield from _bad_chat(_turns(("system", "s")), "no_target")
    yield from _bad_chat(_turns(("user", "q"), ("assistant", "a"), ("user", "q")), "no_target")
    for order in ("uua", "auaa", "aua", "uaa", "usa", "uas", "suasua", "ssua"):
        names = {"u": "user", "a": "assistant", "s": "system"}
        yield from _bad_chat(_turns(*((names[mark], "text") for mark in order)), "role_order")
    empties: list[Any] = [None, "", "  \n\t", []]
    for empty in empties:
        yield from _bad_chat(_turns(("user", "q"), ("assistant", empty)), "empty_content")
        yield from _bad_chat(_turns(("user", empty), ("assistant", "a")), "empty_content")
    for part in ({"type": "image_url", "image_url": {"url": "x"}}, {"type": "image"}, {"type": "input_audio"}):
        parts = [{"type": "text", "text": "look"}, part]
        yield from _bad_chat(_turns(("user", parts), ("assistant", "a")), "unsupported_content")
    yield from _bad_row(json.dumps({**chat(1), "images": ["a.png"]}), "unsupported_content")
    yield from _bad_row(json.dumps({**chat(1), "image": "a.png"}), "unsupported_content")
    for role in ("tool", "function", "function_call", "observation", "tool_response", "ipython"):
        yield from _bad_chat(_turns(("user", "q"), (role, "{}"), ("assistant", "a")), "unsupported_content")
    call: dict[str, Any] = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    yield from _bad_row(json.dumps({"messages": [{"role": "user", "content": "q"}, call]}), "unsupported_content")
    call = {"role": "assistant", "content": "", "function_call": {"name": "f"}}
    yield from _bad_row(json.dumps({"messages": [{"role": "user", "content": "q"}, call]}), "unsupported_content")


def tables() -> Iterator[Case]:
    yield "a.csv", "question,answer\na,b\nc\n", "bad_csv", 3, None
    yield "a.csv", "question,answer\r\na,b\r\nc,d,e\r\n", "bad_csv", 3, None
    yield "a.tsv", "question\tanswer\na\n", "bad_csv", 2, None
    yield "a.csv.gz", gzip.compress(b"question,answer\na,b,c\nd,e\n"), "bad_csv", 2, None
    yield "a.csv", 'question,answer\n"two\nlines",b\nc\n', "bad_csv", 4, None
    yield "a.csv", 'question,answer\na,b\n"c,d\n', "bad_csv", 3, None
    yield "a.csv", 'question,answer\na,b\n"c,d\ne,f\ng,h\n', "bad_csv", 3, None
    yield "a.csv", 'question,answer\na,"b\n' + "c,d\n" * 2000, "bad_csv", 2, None
    yield "a.tsv", 'question\tanswer\na\tb\nc\t"d\n', "bad_csv", 3, None
    yield "a.csv", 'question,answer\na,"b" c\n', "bad_csv", 2, None
    yield "a.csv", "question,question\na,b\n", "bad_csv", 1, None
    yield "a.csv", "question;answer\na;b\n", "wrong_delimiter", 1, None
    yield "a.csv", "\ufeffquestion;answer\r\nHello, you;Hi, there\r\n", "wrong_delimiter", 1, None
    yield "a.csv", "question\tanswer\na\tb\n", "wrong_delimiter", 1, None
    yield "a.csv", "question|answer\na|b\n", "wrong_delimiter", 1, None
    yield "a.csv", "question;answer;notes, if any\na;b;c\n", "wrong_delimiter", 1, None
    yield "a.csv", '"question";"answer"\n"a";"b"\n', "wrong_delimiter", 1, None
    yield "a.tsv", "question,answer\na,b\n", "wrong_delimiter", 1, None
    yield "a.tsv.zst", zstandard.compress(b"question;answer\na;b\n"), "wrong_delimiter", 1, None
    yield "a.csv", "What is this?,A lamp that glows\nAnd that?,A bulb\n", "missing_header", 1, None
    yield "a.csv", "How are you,I am fine thank you\r\nAnd,fine\r\n", "missing_header", 1, None
    yield "a.tsv", "What is 2+2?\t4\nAnd 3+3?\t6\n", "missing_header", 1, None
    yield "a.csv", "17,23\n18,24\n", "missing_header", 1, None
    yield "a.csv", "Who's there,Me\nAnd you,Me too\n", "missing_header", 1, None
    yield "a.csv", "Hi there,Good day\nBye,See you\n", "missing_header", 1, None
    for header in ("first,second", "Customer name,Agent reply", "speaker_1,speaker_2"):
        yield "a.csv", f"{header}\na,b\n", "missing_column", 1, None
    yield "a.jsonl", '\n{"foo": "a", "bar": "b"}\n', "missing_column", 2, None
    yield "a.json", '[\n{"foo": "a", "bar": "b"}]', "missing_column", 2, None
    yield "a.jsonl", "{}\n{}\n", "missing_column", 1, None
    yield from _bad_row('{"foo": 1}', "missing_column")
    yield "a.parquet", _columns(foo=["a"], bar=["b"]), "missing_column", None, None


def parquets() -> Iterator[Case]:
    good = parquet([{"question": f"q{n}", "answer": "a"} for n in range(100)])
    yield "a.parquet", b"PAR1 and no footer", "bad_parquet", None, None
    yield "a.parquet", good[:-9] + b"broken!!!", "bad_parquet", None, None
    yield "a.parquet", good[: len(good) // 2], "bad_parquet", None, None
    yield "a.parquet", good[:-8] + b"\xff\xff\xff\x7fPAR1", "bad_parquet", None, None
    yield "a.parquet", good[:20] + bytes(40) + good[60:], "bad_parquet", None, None
    yield "a.parquet", b"PAR1" + b"\0" * 40 + b"PARE", "bad_parquet", None, None
    yield "a.parquet", b"PARE" + b"\0" * 40 + b"PARE", "bad_parquet", None, None
    for odd in ([date(2024, 1, 1)], [5], [1.5], [b"bytes"], [{"a": 1}], [True]):
        yield "a.parquet", _columns(question=["q"], answer=odd), "unsupported_column", None, None
        yield "a.parquet", _columns(instruction=odd, output=["a"]), "unsupported_column", None, None
    for value in ("5", "1.5", "true", '{"a": 1}'):
        yield from _odd_column(value)


def _odd_column(value: str) -> Iterator[Case]:
    rows = ['{"question": "q", "answer": "a"}'] * 2
    yield "a.jsonl", "\n".join([*rows, f'{{"question": "q", "answer": {value}}}']), "unsupported_column", 3, None


def limits() -> Iterator[Case]:
    import pyarrow as pa

    long = json.dumps({"question": "q", "answer": "a" * 3000})
    yield from _bad_row(long, "line_too_long")
    yield "a.csv", "question,answer\nq," + "a" * 3000 + "\n", "line_too_long", 2, None
    yield "a.csv", "question,answer\nq,a\nq," + "a" * 3000, "line_too_long", 3, None
    yield "a.txt", "short\n\n" + "line\n" * 1000, "line_too_long", 3, None
    yield "a.jsonl", _GOOD * 500, "file_too_large", None, None
    yield "a.json", " " * 60_000, "file_too_large", None, None
    yield "a.csv", "q" * 100_001, "file_too_large", None, None
    yield "a.jsonl", "{}\n" * 101, "too_many_rows", 101, None
    yield "a.json", "[" + "{},\n" * 100 + "{}]", "too_many_rows", 101, None
    yield "a.csv", "question,answer\n" + "q,a\n" * 101, "too_many_rows", 102, None
    yield "a.txt", "p\n\n" * 101, "too_many_rows", 201, None
    for name in ("a.jsonl", "a.json", "a.csv", "a.txt"):
        yield f"{name}.gz", gzip.compress(b" \n" * 60_000), "expands_too_large", None, None
        yield f"{name}.zst", zstandard.compress(b" \n" * 60_000), "expands_too_large", None, None
    yield "a.jsonl.gz", gzip.compress(b" " * 60_000) * 2, "expands_too_large", None, None
    yield "a.parquet", parquet([{"question": "a" * 2000, "answer": "b"}] * 500), "expands_too_large", None, None
    yield "a.parquet", _columns(question=["q" * 2000] * 60, answer=["a"] * 60), "expands_too_large", None, None
    once = pa.array(["q" * 2000] * 60).dictionary_encode()
    yield "a.parquet", _columns(question=once, answer=["a"] * 60), "expands_too_large", None, None
