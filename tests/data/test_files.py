"""Files that strangers made: each fault has its code and its place, and never a traceback."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest

from phi3tune.data import files, json_rows
from tests.data.conftest import Load, Problems, chat, jsonl

_GOOD = jsonl([chat(n) for n in range(5)])


def _zip() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.jsonl", _GOOD)
    return stream.getvalue()


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), stream)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "code", "line"),
    [
        ("a.jsonl", "", "empty_file", None),
        ("a.jsonl", b"\xef\xbb\xbf", "empty_file", None),
        ("a.jsonl", "\n \n", "empty_file", None),
        ("a.json", "[ ]", "empty_file", None),
        ("a.json", '{"data": []}', "empty_file", None),
        ("a.csv", "question,answer\n", "empty_file", None),
        ("a.parquet", b"", "empty_file", None),
        ("a.jsonl", _GOOD.encode("utf-16"), "bad_encoding", 1),
        ("a.jsonl", _GOOD.encode() + b'{"a": "\xff"}', "bad_encoding", 6),
        ("a.jsonl", b'{"a": "x\0y"}', "type_mismatch", None),
        ("a.jsonl", b"\x89PNG\r\n\x1a\n", "type_mismatch", None),
        ("a.jsonl", _zip(), "type_mismatch", None),
        ("a.jsonl", pickle.dumps([1]), "type_mismatch", None),
        ("a.json", gzip.compress(_GOOD.encode()), "type_mismatch", None),
        ("a.jsonl.gz", _GOOD, "type_mismatch", None),
        ("a.jsonl.gz", gzip.compress(_GOOD.encode())[:-20], "type_mismatch", None),
        ("a.html", "<p>", "unsupported_type", None),
        ("a.pkl", pickle.dumps([1]), "unsupported_type", None),
        ("a.jsonl.zst", b"(\xb5/\xfd", "unsupported_type", None),
        ("noname", _GOOD, "unsupported_type", None),
        ("a.jsonl", _GOOD + '{"messages": [', "bad_json", 6),
        ("a.jsonl", json.dumps(chat(1), indent=1), "bad_json", 1),
        ("a.json", _GOOD, "bad_json", 2),
        ("a.json", '[{"a": 1},\n {"a": 2}\n {"a": 3}]', "bad_json", 3),
        ("a.json", '[{"a": 1},\n {"a": }]', "bad_json", 2),
        ("a.json", '[{"a": 1},\n', "bad_json", 2),
        ("a.json", '[{"a": 1}', "bad_json", 1),
        ("a.json", '[{"a": 1}]\n[]', "bad_json", 2),
        ("a.json", "nonsense", "bad_json", 1),
        ("a.json", '"text"', "bad_shape", 1),
        ("a.json", '{"rows": []}', "bad_shape", 1),
        ("a.json", "[\n1]", "bad_shape", 2),
        ("a.jsonl", _GOOD + "[]\n", "bad_shape", 6),
        ("a.jsonl", _GOOD + '{"a": NaN}\n', "bad_number", 6),
        ("a.jsonl", _GOOD + '{"a": ' + "9" * 5000 + "}\n", "bad_number", 6),
        ("a.json", '[\n{"a": Infinity}]', "bad_number", 2),
        ("a.jsonl", _GOOD + "[" * 10_000 + "\n", "too_deep", 6),
        ("a.json", "[" * 10_000, "too_deep", 1),
        ("a.jsonl", _GOOD + '{"a": 1, "a": 2}\n', "duplicate_key", 6),
        ("a.jsonl", _GOOD + '{"messages": [{"role": "user", "role": "user"}]}', "duplicate_key", 6),
        ("a.csv", "question,answer\na,b\nc\n", "bad_csv", 3),
        ("a.csv", 'question,answer\na,b\n"c,d\n', "bad_csv", 3),
        ("a.csv", "question,question\na,b\n", "bad_csv", 1),
        ("a.csv", "question,answer\na," + "b" * 140_000, "line_too_long", 2),
        ("a.csv", "question;answer\na;b\n", "wrong_delimiter", 1),
        ("a.tsv", "question,answer\na,b\n", "wrong_delimiter", 1),
        ("a.csv", "What is this?,A lamp that glows\nAnd that?,A bulb\n", "missing_header", 1),
        ("a.csv", "first,second\na,b\n", "missing_column", 2),
        ("a.parquet", b"PAR1 and no footer", "bad_parquet", None),
        ("a.parquet", b"PAR1" + b"\0" * 40 + b"PARE", "bad_parquet", None),
        ("a.parquet", _parquet([{"question": "a", "answer": "b"}])[:-9] + b"broken!!!", "bad_parquet", None),
    ],
)
def test_each_fault_has_its_code_and_line(
    problems: Problems, name: str, content: str | bytes, code: str, line: int | None
) -> None:
    found = problems(name, content)
    assert [(p.code, p.line, p.file) for p in found[:1]] == [(code, line, name)]
    assert all(p.severity == "error" and p.found and p.expected and p.fix for p in found)


def test_a_fault_has_its_column(problems: Problems) -> None:
    assert problems("a.jsonl", '{"a": 1,}')[0].column == 9
    assert problems("a.json", '[{"a": 1},\n  {"a": x}]')[0].column == 9
    assert problems("a.jsonl", b'{}\n{"a": "\xff"}')[0].column == 8


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("a.jsonl", _GOOD, "file_too_large"),
        ("a.jsonl.gz", gzip.compress(b" " * 100_000), "expands_too_large"),
        ("a.parquet", _parquet([{"question": "a" * 2000, "answer": "b"}] * 500), "expands_too_large"),
        ("a.jsonl", _GOOD, "line_too_long"),
    ],
)
def test_limits(
    problems: Problems, monkeypatch: pytest.MonkeyPatch, name: str, content: str | bytes, code: str
) -> None:
    size = len(content)
    if code == "line_too_long":
        monkeypatch.setattr(json_rows, "MAX_LINE_CHARS", 10)
    else:
        limit = size - 1 if code == "file_too_large" else max(size, 20_000)
        monkeypatch.setattr(files, "MAX_FILE_BYTES", limit)
    assert problems(name, content)[0].code == code


def test_a_bad_byte_is_placed_behind_a_byte_order_mark(problems: Problems) -> None:
    found = problems("a.jsonl", b'\xef\xbb\xbf{}\n{"a": "\xff"}')[0]
    assert (found.code, found.line, found.column) == ("bad_encoding", 2, 8)


def test_many_columns_do_not_take_quadratic_time(problems: Problems) -> None:
    names = [f"c{n}" for n in range(200_000)]
    assert problems("a.csv", ",".join([*names, "c199999"]) + "\n")[0].code == "bad_csv"
    row = ",".join(f'"{name}": 1' for name in [*names, "c199999"])
    assert problems("a.jsonl", f"{{{row}}}")[0].code == "duplicate_key"


def test_too_many_rows(problems: Problems, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_ROWS", 4)
    assert [(p.code, p.line) for p in problems("a.jsonl", _GOOD)] == [("too_many_rows", 5)]


def test_all_problems_come_together_up_to_a_cap(problems: Problems, load: Load) -> None:
    content = _GOOD + "{\n" * 3 + jsonl([{"messages": "x"}])
    assert [(p.code, p.line) for p in problems("a.jsonl", content)] == (
        [("bad_json", 6), ("bad_json", 7), ("bad_json", 8), ("bad_messages", 9)]
    )
    from phi3tune.data import DataError

    with pytest.raises(DataError) as caught:
        load("b.jsonl", _GOOD + "{\n" * 250)
    assert len(caught.value.problems) == 100
    assert caught.value.count == 250
    message = str(caught.value)
    assert message.startswith("b.jsonl:6:2: bad_json: found ")
    assert "and 249 more; run: phi3tune data check" in message
    assert "\n" not in message


def test_a_row_may_hold_line_separators_and_blank_lines_are_skipped(load: Load) -> None:
    rows = [chat(n) for n in range(4)]
    rows[1]["messages"][0]["content"] = "a\u2028b\x85c"
    dataset = load("a.jsonl", "\n" + jsonl(rows).replace("\n", "\r\n\r\n"))
    by_row = {c.row: c for c in dataset.conversations}
    assert by_row[1].messages[0]["content"] == "a\u2028b\x85c"
    assert by_row[3].line == 8


@pytest.mark.parametrize(
    "name", ["a.jsonl", "a.json", "b.json", "a.csv", "a.tsv", "a.parquet", "a.jsonl.gz", "a.csv.gz"]
)
def test_every_type_gives_the_same_conversations(load: Load, name: str) -> None:
    pairs = [{"question": f'Say "{n}",\nplease; ütf', "answer": f" {n}\t"} for n in range(9)]
    if ".json" in name:
        document: Any = {"data": pairs} if name == "b.json" else pairs
        text = jsonl(pairs) if ".jsonl" in name else "\ufeff" + json.dumps(document, indent=2)
        content = text.encode()
    elif name == "a.parquet":
        content = _parquet(pairs)
    else:
        import csv

        stream = io.StringIO()
        writer = csv.DictWriter(stream, ["question", "answer"], delimiter="\t" if ".tsv" in name else ",")
        writer.writeheader()
        writer.writerows(pairs)
        content = stream.getvalue().encode()
    dataset = load(name, gzip.compress(content) if name.endswith(".gz") else content)
    conversations = sorted(dataset.conversations, key=lambda c: c.row)
    assert [c.row for c in conversations] == list(range(9))
    assert [(c.messages[0]["content"], c.reference) for c in conversations] == (
        [(f'Say "{n}",\nplease; ütf', f"{n}") for n in range(9)]
    )


def test_csv_is_text_and_knows_its_lines(load: Load) -> None:
    dataset = load("a.csv", 'question,answer\n"two\nlines",007\nx,NaN\n\ny,1e3\n')
    rows = {c.row: c for c in dataset.conversations}
    assert [rows[n].reference for n in range(3)] == ["007", "NaN", "1e3"]
    assert [rows[n].line for n in range(3)] == [2, 4, 6]


def test_what_a_file_says_cannot_reach_the_terminal(problems: Problems) -> None:
    found = problems("a.jsonl", jsonl([{"\x1b[2J\ud800evil": 1, "b" * 1000: 2}]).encode("utf-8", "surrogatepass"))
    assert found[0].code == "bad_encoding"
    found = problems("a.jsonl", '{"\\u001b[2J\\ud800evil": 1, "' + "b" * 1000 + '": 2}')
    assert found[0].code == "missing_column"
    assert found[0].found.isprintable()
    assert len(found[0].found) < 400
    assert "\\x1b[2J\\ud800evil" in found[0].found


def test_random_bytes_never_raise_anything_else(problems: Problems, tmp_path: Path) -> None:
    import random

    rng = random.Random(3)
    good = _GOOD.encode()
    for name in ("a.jsonl", "a.json", "a.csv", "a.jsonl.gz", "a.parquet"):
        whole = gzip.compress(good) if name.endswith("gz") else good
        whole = _parquet([chat(n) for n in range(3)]) if name == "a.parquet" else whole
        for _ in range(40):
            broken = bytearray(whole)
            for _ in range(rng.randint(1, 5)):
                broken[rng.randrange(len(broken))] = rng.randrange(256)
            problems(name, bytes(broken[: rng.randint(1, len(broken))]))
