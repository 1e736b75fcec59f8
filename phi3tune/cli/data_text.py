"""What `phi3tune data` prints for people."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from phi3tune.data import DatasetInfo, Version
    from phi3tune.data.token_view import Token

_ROWS_SHOWN = 5
_CHANGES_SHOWN = 20
_MARKS = {"learned": ("[", "]"), "cut": ("{", "}"), "special": ("<", ">")}
_COLOURS = {"learned": "green", "cut": "bright_black", "special": "magenta"}


def print_check(found: dict[str, Any]) -> None:
    """The audit: figures, findings with their first rows, and every problem (on standard error)."""
    console = Console(soft_wrap=not sys.stdout.isatty(), highlight=False)
    parts = ", ".join(f"{rows:,} {part}" for part, rows in found["parts"].items())
    console.print(f"{found['rows']:,} rows ({parts}), format {found['format']}", markup=False)
    if found["suggested_mapping"]:
        mapping = ",".join(f"{field}={column}" for field, column in found["suggested_mapping"].items())
        console.print(f"columns {', '.join(found['columns'])}; perhaps --columns {mapping}", markup=False)
    _print_lengths(console, found)
    for name in ("languages", "answers", "labels"):
        if lines := _listing(name, found):
            console.print(lines, markup=False)
    for finding in found["findings"]:
        console.print(_finding(finding))
    for problem in found["problems"]:
        place = ":".join(str(problem[key]) for key in ("file", "line", "column") if problem[key] is not None)
        text = f"{problem['severity']} {problem['code']} {place}: found {problem['found']}, "
        typer.echo(text + f"expected {problem['expected']}; {problem['fix']}", err=True)
    if found["problems_left_out"]:
        typer.echo(f"and {found['problems_left_out']:,} more problems", err=True)


def print_version(version: Version) -> None:
    """A new version's id and what was changed for it."""
    for change in version.changes[:_CHANGES_SHOWN]:
        place = ":".join(str(part) for part in (change.file, change.line) if part is not None)
        typer.echo(f"{place}: {change.code}: {change.what}")
    if (more := len(version.changes) - _CHANGES_SHOWN) > 0:
        typer.echo(f"and {more:,} more changes, all in {version.path.parent / 'changes.jsonl'}")
    rows = sum(version.rows.values())
    typer.echo(f"new version {version.id}: {rows:,} rows, made from {version.parent}")


def print_datasets(infos: Sequence[DatasetInfo]) -> None:
    """One line for each dataset."""
    table = Table("Id", "Name", "Kind", "Version", "Made from", box=None)
    for info in infos:
        table.add_row(*map(Text, (info.id, info.name, info.kind, str(info.version), info.parent or "")))
    Console(soft_wrap=not sys.stdout.isatty(), highlight=False).print(table)


def token_line(tokens: Iterable[Token], *, colour: bool) -> str:
    """Tokens as text: learned ones in green or [brackets], special in magenta or <>, cut ones in grey or {}."""
    shown = []
    for token in tokens:
        kinds = [kind for kind in ("special", "learned", "cut") if getattr(token, kind)]
        text = token.text.replace("\n", "⏎\n")
        if colour:
            text = typer.style(text, fg=_COLOURS[kinds[-1]], bold="special" in kinds) if kinds else text
        else:
            for kind in kinds:
                opening, closing = _MARKS[kind]
                text = text if kind == "special" and text.startswith("<") else f"{opening}{text}{closing}"
        shown.append(text)
    return "".join(shown)


def _print_lengths(console: Console, found: dict[str, Any]) -> None:
    tokens = found["tokens"]
    if not tokens or not tokens["total"]:
        return
    console.print(
        f"tokens: {tokens['total']:,} in all, {tokens['trained']:,} learned ({found['trained_share']:.0%}); a row has "
        f"{tokens['mean']:,.0f} on average, half at most {tokens['median']:,.0f}, 95 % at most {tokens['p95']:,}, "
        f"longest {tokens['max']:,}; {found['turns']['mean']:.1f} turns on average, at most {found['turns']['max']}",
        markup=False,
    )
    if found["truncated_rows"]:
        console.print(
            f"cut at {found['max_length']:,} tokens: {found['truncated_rows']:,} rows, {found['cut_answers']:,} of "
            f"them in an answer, {found['unlearnable_rows']:,} with nothing left to learn",
            markup=False,
        )
    most = max(column["rows"] for column in found["histogram"])
    for column in found["histogram"]:
        bar = "█" * round(40 * column["rows"] / most) or ("▏" if column["rows"] else "")
        console.print(f"{column['low']:>8,}-{column['high']:<8,} {column['rows']:>9,} {bar}", markup=False)


def _listing(name: str, found: dict[str, Any]) -> str:
    rows = found[name]
    if not rows:
        return ""
    if name == "languages":
        shares = ", ".join(f"{row['name']} {row['share']:.0%}" for row in rows[:5])
        return f"languages of {found['languages_sampled']:,} rows: {shares}"
    if name == "labels":
        counts = [
            f"  {row['label']}: {row['train']:,} train, {row['validation']:,} validation, {row['test']:,} test"
            for row in rows
        ]
        return "\n".join(["labels", *counts])
    return "\n".join(["most frequent answers", *(f"  {row['rows']:,} times {row['text'][:80]!r}" for row in rows[:5])])


def _finding(finding: dict[str, Any]) -> Text:
    rows = ", ".join(str(row) for row in finding["rows"][:_ROWS_SHOWN])
    more = ", …" if finding["count"] > _ROWS_SHOWN else ""
    colour = "yellow" if finding["severity"] == "warning" else "cyan"
    return Text.assemble(
        (finding["code"], f"bold {colour}"), f"  {finding['detail']}; rows {rows}{more}; advice: {finding['advice']}"
    )
