"""`phi3tune keys`."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Annotated

import typer

from phi3tune import keys
from phi3tune.cli import plain_typer
from phi3tune.cli.follow import print_json, say
from phi3tune.paths import Workspace

app = plain_typer(no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.callback()
def _keys() -> None:
    """Make, list and revoke API keys of endpoints."""


@app.command()
def make(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="What it is called, such as who has it; default key-N.")
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """Make a key and print it. It is kept as a hash only, so that it can never be printed again."""
    workspace = Workspace.current()
    key = keys.make(name, workspace)
    name = keys.check(key, workspace)
    if as_json:
        print_json({"name": name, "key": key})
        return
    sys.stdout.write(f"{key}\n")
    say(f"this is the only time that the key {name!r} is shown; from now on endpoints of this workspace ask for a key")


@app.command("list")
def show(*, as_json: Json = False) -> None:
    """List keys: name, when it was made, and whether it was revoked."""
    found = keys.list_keys(Workspace.current())
    if as_json:
        print_json({"keys": [{"name": key.name, "created": key.created, "revoked": key.revoked} for key in found]})
        return
    for key in found:
        state = f"revoked {_when(key.revoked)}" if key.revoked is not None else "in use"
        sys.stdout.write(f"{key.name}\tmade {_when(key.created)}\t{state}\n")
    if not found:
        say("no keys yet; make one: phi3tune keys make NAME")


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of the key, or the key.")],
    *,
    as_json: Json = False,
) -> None:
    """Make a key useless, at once and for good."""
    name = keys.revoke(name, Workspace.current())
    if as_json:
        print_json({"name": name, "revoked": True})
    else:
        say(f"{name} is revoked")


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")
