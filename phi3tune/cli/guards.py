"""`phi3tune guards`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from phi3tune.cli import plain_typer
from phi3tune.cli.follow import print_json, say
from phi3tune.errors import UserError
from phi3tune.paths import Workspace

app = plain_typer(no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.callback()
def _guards() -> None:
    """Look at checks on what models are asked and what they answer."""


@app.command()
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="YAML file of guards.")],
    text: Annotated[str | None, typer.Argument(metavar="[TEXT]", help="A text; - is standard input.")] = None,
    *,
    side: Annotated[str, typer.Option(help="Take the text as input or as output.")] = "input",
    as_json: Json = False,
) -> int:
    """Check a file of guards, and what they say of a text. Exit code 1 when the text is blocked."""
    if side not in ("input", "output"):
        raise UserError(f"--side {side!r} is not accepted: give input or output")
    from phi3tune import guardrails
    from phi3tune.chat import Message

    guards = guardrails.load(file, Workspace.current())
    if text is None:
        if as_json:
            print_json({"guards": guards.names})
        else:
            say(f"{file} has {len(guards)} guard(s), in order: {', '.join(guards.names)}")
        return 0
    content = sys.stdin.read() if text == "-" else text
    if side == "input":
        verdict = guards.check_input([Message(role="user", content=content)])
        passed = verdict.messages[0]["content"]
    else:
        verdict = guards.check_output(content)
        passed = verdict.text
    if as_json:
        hits = [asdict(hit) for hit in verdict.hits]
        print_json({"action": verdict.action, "hits": hits, "text": None if verdict.blocked else passed})
    else:
        for hit in verdict.hits:
            say(f"{hit.guard}: {hit.action}, {hit.what}")
        say(f"{verdict.action}{f': {verdict.reason}' if verdict.blocked else ''}")
        if not verdict.blocked:
            sys.stdout.write(passed + "\n")
    return 1 if verdict.blocked else 0


@app.command()
def types(as_json: Json = False) -> None:
    """List the types of guards, each with its settings."""
    from phi3tune.guardrails.settings import KINDS

    kinds = {
        name: {field: about.description for field, about in kind.model_fields.items() if field != "type"}
        for name, kind in KINDS.items()
    }
    if as_json:
        print_json(kinds)
        return
    for name, fields in kinds.items():
        typer.echo(f"{name}: {KINDS[name].__doc__}")
        for field, sentence in fields.items():
            typer.echo(f"  {field:<13} {sentence}")
