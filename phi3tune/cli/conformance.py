"""`phi3tune conformance`."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from phi3tune.cli import plain_typer
from phi3tune.cli.follow import print_json, say
from phi3tune.errors import UserError

app = plain_typer()


@app.command()
def conformance(
    url: Annotated[str, typer.Argument(metavar="URL", help="Address of the endpoint, which ends in /v1.")],
    *,
    model: Annotated[str | None, typer.Option(help="Model to ask; by default the first that is listed.")] = None,
    key_file: Annotated[
        Path | None, typer.Option(help="File whose first line is the key; else $OPENAI_API_KEY, if it is set.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Check that an endpoint keeps to OpenAI's interface. Exit code 1 when a check fails."""
    from phi3tune.conformance import NAMES, run

    checks = []
    for check in run(url, _key(key_file), model):
        checks.append(check)
        if not as_json:
            mark = "passed" if check.passed else "FAILED"
            typer.echo(f"{mark}  {check.name:<{max(map(len, NAMES))}}  {check.seconds:6.2f} s  {check.detail}")
    passed = sum(check.passed for check in checks)
    if as_json:
        print_json({"url": url, "passed": passed, "of": len(checks), "checks": [asdict(check) for check in checks]})
    else:
        say(f"{passed} of {len(checks)} checks passed")
    return 0 if passed == len(checks) else 1


def _key(path: Path | None) -> str | None:
    """The key that was given. Raises `UserError` for a file without one."""
    if path is None:
        return os.environ.get("OPENAI_API_KEY") or None
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--key-file {path} cannot be read as text ({type(error).__name__}); check its path") from None
    key = next((line.strip() for line in lines if line.strip()), None)
    if key is None:
        raise UserError(f"--key-file {path} holds no key; write the key on its first line")
    return key
