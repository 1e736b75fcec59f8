from __future__ import annotations

from typing import Any

from phi3tune.data import Conversation
from phi3tune.ui import render_findings

ATTACK = "<img src=x onerror=alert(1)>"


def finding(code: str = "placeholder", **changes: Any) -> dict[str, Any]:
    base = {"code": code, "severity": "warning", "rows": [0, 6], "file": "a.jsonl", "count": 2, "groups": []}
    return {**base, "detail": f"left in {ATTACK}", "names": {"{{name}}": 2}, "advice": "keep", **changes}


def chat(row: int) -> Conversation:
    return Conversation(
        ({"role": "user", "content": f"{ATTACK} {row}"}, {"role": "assistant", "content": "Yes."}), row, "a.jsonl"
    )


def test_findings_name_their_rows_from_one_and_can_be_opened() -> None:
    html = render_findings.findings([finding(), finding("brand_new_code"), finding(ATTACK)])
    assert 'data-finding="1"' in html and "Brand new code" in html
    assert "1, 7" in html and "{{name}} (2)" in html
    assert "<img" not in html
    assert "Nothing was found" in render_findings.findings([])


def test_rows_of_a_grouped_finding_carry_the_number_of_their_group() -> None:
    groups = [[["a.jsonl", 0], ["a.jsonl", 6]]]
    html = render_findings.rows_of(finding("duplicate_rows", groups=groups), {("a.jsonl", 0): chat(0)})
    assert "Exact duplicates: 2 rows" in html
    assert "not among the rows that can be used" in html, "row 6 is not there"
    assert "<img" not in html


def test_many_rows_are_cut_and_counted() -> None:
    many = finding(rows=list(range(100)), count=100)
    html = render_findings.rows_of(many, {("a.jsonl", row): chat(row) for row in range(100)})
    assert f"100 rows; the first {render_findings.ROWS_SHOWN} are shown" in html


def test_changes_tell_what_was_done_and_where() -> None:
    done = [{"code": "mojibake", "file": "a.jsonl", "row": 4, "line": 5, "what": f"mended {ATTACK}"}] * 60
    html = render_findings.changes("lamp-2", done)
    assert "lamp-2 was written with 60 changes" in html
    assert "10 more changes" in html and "<img" not in html
