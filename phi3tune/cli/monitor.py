"""`phi3tune monitor`."""

from __future__ import annotations

import re
import time
from datetime import datetime
from typing import Annotated, Any

import typer

from phi3tune.cli import plain_typer
from phi3tune.cli.follow import print_json, say
from phi3tune.errors import UserError
from phi3tune.paths import Workspace

app = plain_typer()
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Since = Annotated[str, typer.Option(help="How far back: 90s, 30m, 24h, 7d, or a date such as 2026-01-31.")]
_AGO = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)([smhdw])")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}


@app.callback(invoke_without_command=True)
def monitor(
    ctx: typer.Context,
    *,
    since: Since = "24h",
    model: Annotated[str | None, typer.Option(help="Only requests to this model.")] = None,
    as_json: Json = False,
) -> None:
    """Show how endpoints did, and whether what is asked has drifted from the training data."""
    if ctx.invoked_subcommand is not None:
        return
    from phi3tune import monitor as log

    workspace, now = Workspace.current(), time.time()
    start = moment(since, now)
    found = log.summary(workspace, since=start, until=now, model=model)
    found["drift"] = [log.drift(workspace, each["model"], since=start, until=now) for each in found["models"]]
    if as_json:
        print_json(found)
    elif not found["requests"]:
        say(f"no request since {_when(start)}; requests are logged by phi3tune serve and by the app's endpoint")
    else:
        _show(found)


@app.command()
def rate(
    request: Annotated[str, typer.Argument(metavar="ID", help="The id of an answer, such as chatcmpl-...")],
    rating: Annotated[str, typer.Argument(metavar="good|bad", help="What you think of it.")],
) -> None:
    """Rate an answer by its id; a later rating takes the place of an earlier one."""
    if rating not in ("good", "bad"):
        raise UserError(f"rating {rating!r} is not accepted: give good or bad")
    from phi3tune import monitor as log

    log.rate(request, 1 if rating == "good" else -1, Workspace.current())
    say(f"{request} is rated {rating}")


@app.command()
def purge(
    before: Annotated[str, typer.Option(help="Remove what is older: 30d, or a date such as 2026-01-31.")],
    as_json: Json = False,
) -> None:
    """Remove old requests from the log, with the texts that were kept of them."""
    from phi3tune import monitor as log

    count = log.purge(Workspace.current(), moment(before, time.time()))
    if as_json:
        print_json({"removed": count})
    else:
        say(f"removed {count:,} request(s)")


def moment(text: str, now: float) -> float:
    """A time in seconds since 1970, from how long ago it was or from a date. Raises `UserError`."""
    if (ago := _AGO.fullmatch(text.strip())) is not None:
        return now - float(ago[1]) * _UNITS[ago[2]]
    try:
        return datetime.fromisoformat(text.strip()).timestamp()
    except ValueError:
        raise UserError(
            f"{text!r} is no time: write how long ago, as 90s, 30m, 24h, 7d or 4w, or a date, as 2026-01-31"
        ) from None


def _show(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    tokens, ratings = found["tokens"], found["ratings"]
    typer.echo(
        f"since {_when(found['since'])}: {found['requests']:,} requests ({found['requests_per_minute']:.2f} a minute), "
        f"{found['errors']:,} refused or failed; {tokens['prompt']:,} tokens in, {tokens['completion']:,} out"
    )
    table = Table("", "5 %", "median", "95 %")
    for name, title in _MEASURES.items():
        table.add_row(title, *(_number(found[name][each]) for each in ("p5", "p50", "p95")))
    console.print(table)
    for title, rows in (("slowest", found["slowest"]), ("failed", found["failed"])):
        if rows:
            typer.echo(f"{title}:")
        for row in rows:
            status = f"{row['status']} {row['error_code'] or row['finish_reason'] or ''}"
            first = f", first token {_number(row['first_token_seconds'])} s" if row["first_token_seconds"] else ""
            tokens_out = f", {row['completion_tokens']:,} tokens" if row["completion_tokens"] is not None else ""
            took = f"{_number(row['seconds'])} s{first}{tokens_out}"
            typer.echo(f"  {_when(row['time'])}  {row['model']}  {status.strip()}  {took}  {row['id']}")
    for guard in found["guards"]:
        typer.echo(f"guard {guard['guard']}: {guard['action']} {guard['what']} in {guard['requests']:,} request(s)")
    if ratings["up"] or ratings["down"]:
        typer.echo(f"ratings: {ratings['up']:,} good, {ratings['down']:,} bad")
    for each in found["drift"]:
        typer.echo(each["sentence"])


_MEASURES = {
    "first_token": "first token, s",
    "tokens_per_second": "tokens per second",
    "seconds": "whole request, s",
    "queue": "waiting, s",
}


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.3g}"


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")
