"""`phi3tune votes`."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from phi3tune import votes as kept
from phi3tune.cli import plain_typer
from phi3tune.cli.follow import print_json
from phi3tune.paths import Workspace

app = plain_typer()


@app.command()
def votes(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """Show which answers people preferred in the playground: by pair and by model, with 95 % intervals."""
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


def _share(share: kept.Share) -> dict[str, object]:
    return {"value": share.value, "interval": share.interval}
