"""`phi3tune votes`."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from phi3tune import votes as kept
from phi3tune.cli import plain_typer
from phi3tune.cli.follow import print_json, say
from phi3tune.errors import UserError
from phi3tune.paths import Workspace

app = plain_typer()


@app.callback(invoke_without_command=True)
def votes(
    ctx: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False
) -> None:
    """Show which answers people preferred in the playground: by pair and by model, with 95 % intervals."""
    if ctx.invoked_subcommand is not None:
        return
    found = kept.tally(Workspace.current())
    if as_json:
        pairs = [{**dataclasses.asdict(pair), "share": _share(pair.share)} for pair in found.pairs]
        models = [{**dataclasses.asdict(record), "share": _share(record.share)} for record in found.models]
        print_json({"votes": found.votes, "pairs": pairs, "models": models})
        return
    if not found.votes:
        typer.echo("no votes yet: choose Blind in the playground, and say which answer is better")
        return
    for pair in found.pairs:
        ties = f"{pair.ties:,} ties, {pair.both_bad:,} both bad"
        typer.echo(f"{pair.first} against {pair.second}: {pair.wins:,} to {pair.losses:,}, {ties}")
    for record in found.models:
        low, high = record.share.interval
        rate = (
            "no decided vote"
            if record.share.value is None
            else f"wins {record.share.value:.0%} ({low:.0%} to {high:.0%})"
        )
        typer.echo(f"{record.model}: {rate} in {record.votes:,} votes")


@app.command()
def add(
    models: Annotated[list[str], typer.Argument(metavar="MODEL MODEL...", help="The models that answered.")],
    *,
    best: Annotated[str | None, typer.Option(help="The one of them whose answer is the best.")] = None,
    tie: Annotated[bool, typer.Option("--tie", help="All answers are as good.")] = False,
    bad: Annotated[bool, typer.Option("--bad", help="No answer is any good.")] = False,
) -> None:
    """Say which of several answers is the best, as the buttons under two answers in the playground do."""
    from phi3tune.engines import models as known

    said = [choice for choice, given in ((best, best is not None), (kept.TIE, tie), (kept.BAD, bad)) if given]
    if len(said) != 1:
        raise UserError("a vote says one thing: give either --best MODEL, --tie or --bad")
    workspace = Workspace.current()
    refs = {name: known.resolve(name, workspace).ref for name in models}
    kept.add(list(refs.values()), refs.get(str(said[0]), str(said[0])), workspace)
    say(f"kept; all votes: {kept.tally(workspace).votes:,}")


def _share(share: kept.Share) -> dict[str, object]:
    return {"value": share.value, "interval": share.interval}
