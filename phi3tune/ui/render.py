"""Numbers, tables and notices as text and HTML: pure functions.

Whatever a person or a model wrote goes through `esc` before it becomes part of the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from phi3tune.system import GIB
from phi3tune.ui import pictures
from phi3tune.ui.language import ENGLISH
from phi3tune.ui.words import reader, t

NONE = "–"


def esc(text: object) -> str:
    """Any text as inert HTML."""
    return escape(str(text), quote=True)


def number(value: float | None) -> str:
    """`1240` -> `1,240`; `0.81234` -> `0.812`."""
    if value is None:
        return NONE
    if float(value).is_integer():
        return f"{value:,.0f}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 1 else f"{value:,.2f}"


def share(value: float | None) -> str:
    """`0.8634` -> `86.3 %`."""
    return NONE if value is None else f"{100 * value:.1f} %"


def counted(count: int, noun: str) -> str:
    """`1 row`, `1,240 rows`. The catalogue has the noun as `{n} rows`: Japanese knows no plural."""
    if count == 1 and reader() == ENGLISH:
        return f"1 {noun}"
    return t(f"{{n}} {noun}s", n=f"{count:,}")


def duration(seconds: float | None) -> str:
    """`127.4` -> `2 min`."""
    if seconds is None:
        return NONE
    if seconds < 1:
        return t("less than 1 s")
    if seconds < 90:
        return t("{n} s", n=f"{seconds:.0f}")
    minutes = round(seconds / 60)
    if minutes < 60:
        return t("{n} min", n=minutes)
    return t("{hours} h {minutes} min", hours=minutes // 60, minutes=minutes % 60)


def latency(seconds: float) -> str:
    """A short wait: `0.034` -> `34 ms`, `1.24` -> `1.2 s`."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def size(count: int) -> str:
    """Bytes in the unit a person would use: `1.1 GB`, `38 MB`."""
    if count >= GIB:
        return f"{count / GIB:.1f} GB"
    return f"{count / 1024**2:.0f} MB" if count >= 1024**2 else f"{count / 1024:.0f} kB"


@dataclass(frozen=True)
class Column:
    """A table column; numbers are set right, `html` cells are trusted to be escaped already."""

    title: str
    numeric: bool = False
    html: bool = False
    wide: bool = False


def table(columns: Sequence[Column], rows: Sequence[Sequence[object]], *, caption: str = "") -> str:
    """An HTML table, scrolling sideways in its own box where the page is narrow."""

    def classes(column: Column) -> str:
        names = [name for name, wanted in (("num", column.numeric), ("wide", column.wide)) if wanted]
        return f' class="{" ".join(names)}"' if names else ""

    head = "".join(f'<th scope="col"{classes(c)}>{esc(c.title)}</th>' for c in columns)
    body = "".join(
        "<tr>"
        + "".join(f"<td{classes(c)}>{cell if c.html else esc(cell)}</td>" for c, cell in zip(columns, row, strict=True))
        + "</tr>"
        for row in rows
    )
    title = f"<caption>{esc(caption)}</caption>" if caption else ""
    return (
        '<div class="pt-scroll" tabindex="0">'
        f'<table class="pt-table">{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def notice(level: str, text: str, action: str = "") -> str:
    """One line in a box. `level` is info, good, warning or bad."""
    todo = f" <span class='pt-todo'>{esc(action)}</span>" if action else ""
    return f'<div class="pt-notice pt-{esc(level)}" role="status">{esc(text)}{todo}</div>'


def empty(text: str, picture: str = "") -> str:
    """What a place will show, and what to do first; `picture` is one of `pictures.PICTURES`."""
    drawn = pictures.picture(picture) if picture else ""
    return f'<div class="pt-empty">{drawn}<p>{esc(text)}</p></div>'


def section(mark: str, title: str, hint: str = "") -> str:
    """Heading of a card."""
    badge = f'<span class="pt-step" aria-hidden="true">{esc(mark)}</span>' if mark else ""
    return f'<h2 class="pt-heading">{badge}{esc(title)}<small>{esc(hint)}</small></h2>'


def facts(items: Sequence[tuple[str, str]]) -> str:
    """Figures in a row: `(value, name)`, the name below."""
    cells = "".join(f"<div><b>{esc(value)}</b><span>{esc(name)}</span></div>" for value, name in items)
    return f'<div class="pt-facts">{cells}</div>'


def explained(terms: Sequence[tuple[str, str]], title: str) -> str:
    """What figures mean, `(name, sentence)` each, behind one line that opens."""
    lines = "".join(f"<dt>{esc(name)}</dt><dd>{esc(meaning)}</dd>" for name, meaning in terms)
    return f'<details class="pt-explain"><summary>{esc(title)}</summary><dl>{lines}</dl></details>'


def bar(fraction: float, label: str) -> str:
    """A progress bar; `fraction` from 0 to 1."""
    percent = round(100 * min(1.0, max(0.0, fraction)))
    return (
        f'<div class="pt-bar" role="progressbar" aria-label="{esc(label)}" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{percent}"><span style="width:{percent}%"></span></div>'
    )


def answer_text(text: str, mark: tuple[int, int] | None = None) -> str:
    """What a model said, character for character; fenced code is set in a code block.

    Nothing of it is interpreted, so it can run no script and fetch no image. `mark` is the part from one place to
    another that is to stand out.
    """
    shown, start = [], 0
    for place, part in enumerate(text.split("```")):
        code, at = part, start
        if place % 2:
            language, newline, rest = part.partition("\n")
            if newline and " " not in language.strip():
                code, at = rest, start + len(language) + 1
        html = _marked(code, at, mark)
        shown.append(f"<code class='pt-code'>{html}</code>" if place % 2 else html)
        start += len(part) + 3
    return f'<div class="pt-text">{"".join(shown)}</div>'


def _marked(text: str, at: int, mark: tuple[int, int] | None) -> str:
    """A piece that begins at the place `at` of the whole text, escaped."""
    first, last = (min(max(place - at, 0), len(text)) for place in mark or (0, 0))
    if first == last:
        return esc(text)
    return f'{esc(text[:first])}<mark class="pt-differs">{esc(text[first:last])}</mark>{esc(text[last:])}'
