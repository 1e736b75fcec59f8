from __future__ import annotations

import pytest

from phi3tune.ui import render
from phi3tune.ui.render import Column

ATTACK = "<img src='http://evil.example/x' onerror=\"alert(1)\"><script>alert(2)</script>"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (0.2, "less than 1 s"), (42.4, "42 s"), (127.38, "2 min"), (3720, "1 h 2 min"), (3599, "1 h 0 min")],
)
def test_duration(seconds: float | None, text: str) -> None:
    assert render.duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (1240, "1,240"), (0.81234, "0.812"), (5.4321, "5.43"), (1188.7, "1,189"), (0.00031, "0.00031")],
)
def test_number(value: float | None, text: str) -> None:
    assert render.number(value) == text


def test_sizes_shares_and_counts() -> None:
    assert render.size(3 * 1024**3 + 200 * 1024**2) == "3.2 GB"
    assert render.size(40 * 1024**2) == "40 MB"
    assert render.share(0.86349) == "86.3 %"
    assert render.counted(1, "row") == "1 row"
    assert render.counted(1240, "row") == "1,240 rows"
    assert render.latency(0.034) == "34 ms"


def test_table_escapes_cells_and_titles_unless_they_are_html() -> None:
    html = render.table([Column(ATTACK), Column("b", html=True)], [[ATTACK, "<b>x</b>"]], caption=ATTACK)
    assert "<img" not in html
    assert "<script" not in html
    assert "<b>x</b>" in html


def test_notice_and_empty_escape() -> None:
    assert "<img" not in render.notice("bad", ATTACK, ATTACK) + render.empty(ATTACK)


def test_answer_is_shown_character_for_character() -> None:
    html = render.answer_text(f"  two\n    spaces {ATTACK} $$x$$ **bold** ![a](http://evil.example/b.png)")
    assert html.startswith('<div class="pt-text">  two\n    spaces &lt;img')
    assert "<img" not in html
    assert "**bold** ![a](http://evil.example/b.png)" in html


def test_fenced_code_becomes_a_block_without_its_language() -> None:
    html = render.answer_text("See:\n```python\nif a < b:\n    c()\n```\nDone")
    assert "<code class='pt-code'>if a &lt; b:\n    c()\n</code>\nDone" in html
    assert "python" not in html


def test_unfinished_fence_keeps_what_is_there() -> None:
    assert "<code class='pt-code'>py</code>" in render.answer_text("```py")


@pytest.mark.parametrize(("fraction", "percent"), [(-1, 0), (0.234, 23), (7, 100)])
def test_bar_stays_between_its_ends(fraction: float, percent: int) -> None:
    assert f'aria-valuenow="{percent}"' in render.bar(fraction, "x")
