"""`phi3tune evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from phi3tune.cli import plain_typer
from phi3tune.cli.flags import config_flags
from phi3tune.cli.follow import print_json, run_job, say
from phi3tune.config import EvalConfig, parse, read_yaml
from phi3tune.paths import Workspace

app = plain_typer()


@app.command()
@config_flags(EvalConfig, skip=("models",))
def evaluate(
    models: Annotated[list[str] | None, typer.Argument(metavar="MODEL...", help="Models to compare.")] = None,
    *,
    config: Annotated[Path | None, typer.Option(help="YAML file of settings; flags win over it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    settings: dict[str, Any],
) -> int:
    """Score models side by side on the same held-out rows."""
    given = {"models": models} if models else {}
    checked = parse(EvalConfig, {**(read_yaml(config) if config is not None else {}), **settings, **given})
    job, code = run_job("evaluate", checked, Workspace.current())
    if as_json:
        print_json({"status": job.state, **job.result, **({"reason": job.reason} if job.reason else {})})
    elif job.state == "completed":
        _table(job.result)
        say(f"every answer: {job.folder / 'rows.jsonl'}")
    return code


def _table(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    names = list(result["models"][0]["metrics"])
    table = Table(title=f"{result['rows']:,} rows")
    table.add_column("model")
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    for model in result["models"]:
        table.add_row(model["model"], *(_cell(name, model["metrics"][name]) for name in names))
    Console().print(table)


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.3f}" if name == "perplexity" else f"{100 * value:.1f} %"
