"""Files that strangers made: each fault has its code and its place, and never a traceback."""

from __future__ import annotations

import gzip
import io
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zstandard

from phi3tune.config import DatasetConfig
from phi3tune.data import source
from phi3tune.data.problems import ProblemLog
from phi3tune.data.reading import Shape, read_files
from tests.data.conftest import Load, Problems, chat, jsonl, parquet

_GOOD = jsonl([chat(n) for n in range(5)])


def test_a_bad_byte_is_placed_behind_a_byte_order_mark(problems: Problems) -> None:
    found = problems("a.jsonl", b'\xef\xbb\xbf\n{"a": "\xff"}')[0]
    assert (found.code, found.line, found.column) == ("bad_encoding", 2, 8)


def test_many_columns_do_not_take_quadratic_time(problems: Problems) -> None:
    names = [f"c{n}" for n in range(200_000)]
    assert problems("a.csv", ",".join([*names, "c199999"]) + "\n")[0].code == "bad_csv"
    row = ",".join(f'"{name}": 1' for name in [*names, "c199999"])
    assert problems("a.jsonl", f"{{{row}}}")[0].code == "duplicate_key"


def test_too_many_rows(problems: Problems, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "LIMITS", replace(source.LIMITS, rows=4))
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
    "name",
    ["a.jsonl", "a.json", "b.json", "a.csv", "a.tsv", "a.parquet", "a.jsonl.gz", "a.csv.gz", "a.json.zst", "a.tsv.zst"],
)
def test_every_type_gives_the_same_conversations(load: Load, name: str) -> None:
    pairs = [{"question": f'Say "{n}",\nplease; ütf', "answer": f" {n}\t"} for n in range(9)]
    if ".json" in name:
        document: Any = {"data": pairs} if name == "b.json" else pairs
        text = jsonl(pairs) if ".jsonl" in name else "\ufeff" + json.dumps(document, indent=2)
        content = text.encode()
    elif name == "a.parquet":
        content = parquet(pairs)
    else:
        import csv

        stream = io.StringIO()
        writer = csv.DictWriter(stream, ["question", "answer"], delimiter="\t" if ".tsv" in name else ",")
        writer.writeheader()
        writer.writerows(pairs)
        content = stream.getvalue().encode()
    packed = {"gz": gzip.compress, "zst": zstandard.compress}.get(name.rsplit(".", 1)[1], bytes)(content)
    dataset = load(name, packed)
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
    assert problems("a\x1b[2J.jsonl", "{")[0].file == "a\\x1b[2J.jsonl"
    found = problems("a.jsonl", jsonl([{"\x1b[2J\ud800evil": 1, "b" * 1000: 2}]).encode("utf-8", "surrogatepass"))
    assert found[0].code == "bad_encoding"
    found = problems("a.jsonl", '{"\\u001b[2J\\ud800evil": 1, "' + "b" * 1000 + '": 2}')
    assert found[0].code == "missing_column"
    assert found[0].found.isprintable()
    assert len(found[0].found) < 400
    assert "\\x1b[2J\\ud800evil" in found[0].found


@pytest.mark.parametrize("repair", [False, True])
def test_random_bytes_never_raise_anything(tmp_path: Path, repair: bool) -> None:
    rng = random.Random(3)
    text = _GOOD.encode()
    whole = {
        "a.jsonl": text,
        "a.json": json.dumps([chat(n) for n in range(4)], indent=1).encode(),
        "a.csv": b'question,answer\n"two\nlines",b\n' * 9,
        "a.txt": b"one\n\ntwo\n" * 9,
        "a.jsonl.gz": gzip.compress(text),
        "a.jsonl.zst": zstandard.compress(text),
        "a.parquet": parquet([chat(n) for n in range(3)]),
    }
    for name, content in whole.items():
        for _ in range(40):
            broken = bytearray(content)
            for _ in range(rng.randint(1, 5)):
                broken[rng.randrange(len(broken))] = rng.randrange(256)
            (tmp_path / name).write_bytes(broken[: rng.randint(1, len(broken))])
            log = ProblemLog(repair=repair)
            rows = list(read_files({"all": (tmp_path / name, name)}, DatasetConfig(), log, source.LIMITS, Shape()))
            assert rows or log.errors or log.changes


def test_problems_come_in_the_order_of_the_lines(problems: Problems) -> None:
    lines = [*_GOOD.splitlines(), "{"]
    lines[1], lines[3] = '{"messages": 5}', "[1"
    assert [(p.code, p.line) for p in problems("a.jsonl", "\n".join(lines))] == [
        ("bad_messages", 2),
        ("bad_json", 4),
        ("bad_json", 6),
    ]


def test_a_file_with_unknown_columns_still_has_its_other_problems_told(problems: Problems) -> None:
    content = '{"foo": 1}\n' * 600 + "{\n"
    assert [(p.code, p.line) for p in problems("a.jsonl", content)] == [("missing_column", 1), ("bad_json", 601)]
