"""`phi3tune sweep` and `sweeps`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from phi3tune import jobs, sweeps
from phi3tune.cli import INTERRUPTED, plain_typer
from phi3tune.cli.flags import config_flags
from phi3tune.cli.follow import follow_job, print_json, say
from phi3tune.config import TrainConfig, flag, read_yaml
from phi3tune.paths import Workspace

app = plain_typer()
sweeps_app = plain_typer()
app.add_typer(sweeps_app, name="sweeps")
Id = Annotated[str, typer.Argument(metavar="SWEEP", help="A sweep's id, as in `phi3tune sweeps`.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
@config_flags(TrainConfig)
def sweep(
    *,
    axes: Annotated[
        list[str],
        typer.Option("--set", metavar="SETTING=A,B", help="A setting and the values to try; once for each setting."),
    ],
    random: Annotated[
        int | None,
        typer.Option(help="Draw this many trials at random; a setting may then be a range, low..high.", min=1),
    ] = None,
    sweep_seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 0,
    config: Annotated[Path | None, typer.Option(help="YAML file of settings; flags win over it.")] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Queue the runs and return at once.")] = False,
    as_json: Json = False,
    settings: dict[str, Any],
) -> int:
    """Try combinations of settings, one run for each, and rank them. Ctrl+C stops all of them."""
    workspace = Workspace.current()
    shared = {**(read_yaml(config) if config is not None else {}), **settings}
    started = sweeps.start(shared, axes, workspace, sample=random, seed=sweep_seed)
    say(f"{started.id}: {len(started.trials)} trials are queued; see them with: phi3tune sweeps show {started.id}")
    return 0 if detach else _follow(started, workspace, as_json=as_json)


def _follow(sweep: sweeps.Sweep, workspace: Workspace, *, as_json: bool) -> int:
    """Follow every run to its end and show the table; 1 when a run failed, 130 after Ctrl+C."""
    code = 0
    for trial in sweep.trials:
        folder = workspace.run(trial.run)
        if not jobs.view(folder).active:
            continue
        say(f"{trial.run}: " + ", ".join(f"{flag(name)} {value}" for name, value in trial.settings.items()))
        ended = follow_job(folder, workspace)[1]
        if ended == INTERRUPTED:
            sweeps.stop(sweep, workspace)
            code = INTERRUPTED
            break
        code = max(code, min(ended, 1))
    _show(sweeps.table(sweep, workspace), as_json=as_json)
    return code


@sweeps_app.callback(invoke_without_command=True)
def list_sweeps(ctx: typer.Context, as_json: Json = False) -> None:
    """List sweeps, or show one as a ranked table."""
    if ctx.invoked_subcommand is not None:
        return
    workspace = Workspace.current()
    tables = [sweeps.table(each, workspace) for each in sweeps.every(workspace)]
    if as_json:
        print_json({"sweeps": [{key: value for key, value in each.items() if key != "rows"} for each in tables]})
    elif not tables:
        say("no sweeps yet; start one with: phi3tune sweep --dataset lantern-support --set lora_rank=8,16,32")
    for each in () if as_json else tables:
        say(f"{each['sweep']}: {each['completed']} of {each['trials']} trials completed; best {each['best'] or '-'}")


@sweeps_app.command("show")
def show(sweep: Id, as_json: Json = False) -> None:
    """Show the trials of a sweep, best first."""
    workspace = Workspace.current()
    _show(sweeps.table(sweeps.find(sweep, workspace), workspace), as_json=as_json)


@sweeps_app.command("stop")
def stop(sweep: Id) -> None:
    """Ask every run of a sweep to save and stop."""
    workspace = Workspace.current()
    count = sweeps.stop(sweeps.find(sweep, workspace), workspace)
    say(f"{count} runs of {sweep} will stop" if count else f"no run of {sweep} runs or waits")


@sweeps_app.command("resume")
def resume(sweep: Id, as_json: Json = False) -> int:
    """Go on with the trials that were stopped or have no run, and follow all to the end."""
    workspace = Workspace.current()
    return _follow(sweeps.go_on(sweeps.find(sweep, workspace), workspace), workspace, as_json=as_json)


def _show(table: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(table)
        return
    from rich.console import Console
    from rich.table import Table

    names = list(table["rows"][0]["settings"])
    shown = Table("rank", "run", *map(flag, names), table["metric"], "status", "step")
    for row in table["rows"]:
        value = "-" if row["value"] is None else f"{row['value']:.4f}"
        settings = [str(row["settings"][name]) for name in names]
        step = f"{row['step']:,}/{row['steps']:,}"
        shown.add_row(str(row["rank"] or "-"), row["run"], *settings, value, row["status"], step)
    Console().print(shown)
