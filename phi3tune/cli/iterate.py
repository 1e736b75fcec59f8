"""`phi3tune runs continue`, `clone`, `compare`, `export` and `import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from phi3tune import compare_runs
from phi3tune import iterate as runs
from phi3tune.cli import plain_typer, train
from phi3tune.cli.flags import config_flags
from phi3tune.cli.follow import print_json, say
from phi3tune.config import TrainConfig, flag
from phi3tune.paths import Workspace

app = plain_typer()
Run = Annotated[str, typer.Argument(metavar="RUN", help="A run's name, as in `phi3tune runs`.")]
Detach = Annotated[bool, typer.Option("--detach", help="Start the run and return at once.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command("continue")
@config_flags(TrainConfig, skip=("model", "revision"))
def go_on(*, run: Run, detach: Detach = False, as_json: Json = False, settings: dict[str, Any]) -> int:
    """Train on from a run's result: the same settings with these changes, such as other epochs or new data."""
    workspace = Workspace.current()
    config = runs.continued(run, workspace, **settings)
    if seen := runs.rows_seen_before(config, workspace):
        say(
            f"warning: {run} was trained on {seen:,} of the rows that are now held out; a score on them is no held-out "
            "score: give --test-file and --validation-file rows that it has not seen"
        )
    return train.start(config, detach=detach, as_json=as_json)


@app.command("clone")
@config_flags(TrainConfig)
def clone(*, run: Run, detach: Detach = False, as_json: Json = False, settings: dict[str, Any]) -> int:
    """Start a new run with the settings of an earlier one and these changes."""
    return train.start(runs.cloned(run, Workspace.current(), **settings), detach=detach, as_json=as_json)


@app.command("compare")
def compare(
    names: Annotated[list[str], typer.Argument(metavar="RUN...", help="Two runs or more.")], as_json: Json = False
) -> None:
    """Show runs side by side: settings where they differ, and what came of them; curves with --json."""
    found = compare_runs.compare(names, Workspace.current())
    if as_json:
        print_json(found)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("", *found["runs"])
    for field, values in found["settings"].items():
        table.add_row(flag(field), *(_cell(values[run]) for run in found["runs"]))
    if not found["settings"]:
        table.add_row("settings", *("the same" for _ in found["runs"]))
    table.add_section()
    for name in ("status", *compare_runs.RESULTS):
        table.add_row(name.replace("_", " "), *(_cell(found["results"][run][name]) for run in found["runs"]))
    Console().print(table)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-" if value in (None, "", [], {}) else str(value)


@app.command("export")
def export_run(
    run: Run,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The archive to write, such as lamp.zip.")],
    as_json: Json = False,
) -> None:
    """Write a finished run into one file: settings, events, adapter, evaluations; no checkpoints, no base model."""
    from phi3tune import archive

    out = archive.export_run(run, Workspace.current(), file.absolute())
    size = out.stat().st_size
    if as_json:
        print_json({"run": run, "path": str(out), "size_bytes": size})
    else:
        say(f"{run} is in {out} ({size / 1e6:,.1f} MB); take it in with: phi3tune runs import {out.name}")


@app.command("import")
def import_run(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An archive that `phi3tune runs export` made.")],
    model: Annotated[
        str | None, typer.Option(help="The run's base on this machine, when it is not where the archive says.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Take a run out of an archive, after checking every name, size and hash in it."""
    from phi3tune import archive
    from phi3tune.engines import models

    workspace = Workspace.current()
    name = archive.import_run(file.absolute(), workspace, model=model)
    usable = any(ref.ref == name for ref in models.list_models(workspace))
    if as_json:
        print_json({"run": name, "path": str(workspace.runs / name), "usable": usable})
    else:
        say(f"{file.name} is now the run {name}")
    if not usable:
        say(f"its base model is not on this machine: get it, or import again with --model; then: phi3tune chat {name}")
