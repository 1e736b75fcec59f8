"""`phi3tune data`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from phi3tune.cli import plain_typer
from phi3tune.cli.flags import config_flags
from phi3tune.cli.follow import print_json, say
from phi3tune.config import DatasetConfig, parse
from phi3tune.paths import Workspace

app = plain_typer(no_args_is_help=True)


@app.callback()
def data() -> None:
    """Look at a dataset before training on it."""


@app.command()
@config_flags(DatasetConfig, skip=("dataset",))
def check(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A file, a folder, a stored dataset or a bundled name.")],
    *,
    model: Annotated[str, typer.Option(help="Model whose tokenizer counts the tokens.")] = "phi3-nano",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    settings: dict[str, Any],
) -> int:
    """Report rows, format, token lengths and every problem. Exit code 1 when there is an error."""
    from phi3tune import data as datasets
    from phi3tune.chat import Renderer
    from phi3tune.engines import models

    workspace = Workspace.current()
    config = parse(DatasetConfig, {**settings, "dataset": file})
    renderer = Renderer.load(models.resolve(model, workspace).tokenizer)
    found = datasets.check(config, workspace, renderer)
    if as_json:
        print_json(found)
    else:
        typer.echo(f"{found['rows']:,} rows, format {found['format']}")
        for name, value in (found["tokens"] or {}).items():
            if isinstance(value, int | float):
                typer.echo(f"{name.replace('_', ' ')} tokens: {value:,.0f}")
        for problem in found["problems"]:
            place = ":".join(str(problem[key]) for key in ("file", "line", "column") if problem[key] is not None)
            text = f"{problem['severity']} {problem['code']} {place}: found {problem['found']}, "
            say(text + f"expected {problem['expected']}; {problem['fix']}")
    return 1 if any(problem["severity"] == "error" for problem in found["problems"]) else 0
