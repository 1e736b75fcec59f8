"""`phi3tune clean`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from phi3tune.cli import plain_typer
from phi3tune.cli.follow import print_json, say
from phi3tune.paths import Workspace

app = plain_typer()
TITLES = {
    "runs": "runs",
    "builds": "builds",
    "datasets": "uploaded datasets and their versions",
    "reports": "reports",
    "other": "chats, databases, logs",
    "checkpoints": "earlier checkpoints of finished runs",
    "trash": "trash",
    "leftovers": "leftovers of interrupted work",
    "models": "models of the Hub, outside of the workspace",
    "free": "free on the disk",
}


@app.command("clean")
def clean(
    trash: Annotated[bool, typer.Option("--trash", help="Delete what is in the trash for good.")] = False,
    checkpoints: Annotated[
        bool, typer.Option("--checkpoints", help="Delete the checkpoints of finished runs, but for the last of each.")
    ] = False,
    leftovers: Annotated[
        bool, typer.Option("--leftovers", help="Delete temporary files of work that was interrupted.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be deleted; delete nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show how much room the workspace takes, and delete what is not needed. Without a flag, nothing is deleted."""
    from phi3tune import housekeeping

    workspace = Workspace.current()
    room = housekeeping.measure(workspace)
    asked = {"trash": trash, "checkpoints": checkpoints, "leftovers": leftovers}
    wanted = [name for name, given in asked.items() if given]
    if dry_run:
        freed = {name: getattr(room, name) for name in wanted or asked}
    else:
        freed = {name: housekeeping.CLEANERS[name](workspace) for name in wanted}
    if as_json:
        print_json({"bytes": asdict(room) | {"total": room.total}, "freed": freed, "dry_run": dry_run})
        return
    if not wanted:
        for name, title in TITLES.items():
            if (held := getattr(room, name)) is not None:
                say(f"{held / 1e6:>12,.1f} MB  {title}")
        say(f"{room.total / 1e6:>12,.1f} MB  in {workspace.root}")
    for name, count in freed.items():
        say(f"{TITLES[name]}: {count / 1e6:,.1f} MB {'would be freed' if dry_run else 'freed'}")
