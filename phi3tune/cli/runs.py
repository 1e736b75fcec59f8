"""`phi3tune runs`, `stop`, `resume` and `delete`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from phi3tune import jobs
from phi3tune.cli import plain_typer
from phi3tune.cli.follow import duration, follow_job, print_json, say
from phi3tune.cli.train import report
from phi3tune.paths import Workspace

app = plain_typer()
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Run = Annotated[str, typer.Argument(metavar="RUN", help="A run's name, as in `phi3tune runs`.")]

runs_app = plain_typer()
app.add_typer(runs_app, name="runs")


@runs_app.callback(invoke_without_command=True)
def runs(ctx: typer.Context, as_json: Json = False) -> None:
    """List runs, oldest first, or show one."""
    if ctx.invoked_subcommand is not None:
        return
    found = jobs.runs(Workspace.current())
    if as_json:
        print_json({"runs": [_row(job) for job in found]})
    elif not found:
        say("no runs yet; start one with: phi3tune train --dataset lantern-support")
    else:
        from rich.console import Console
        from rich.table import Table

        table = Table("run", "status", "step", "resume from", "reason")
        for job in found:
            row = _row(job)
            table.add_row(
                job.id, job.state, f"{job.step:,}/{job.steps:,}", str(row["resume_step"] or "-"), job.reason or "-"
            )
        Console().print(table)


def _row(job: jobs.JobView) -> dict[str, Any]:
    return {
        "run": job.id,
        "status": job.state,
        "step": job.step,
        "steps": job.steps,
        "resume_step": job.resume_step,
        "reason": job.reason,
    }


@runs_app.command("show")
def show(run: Run, as_json: Json = False) -> None:
    """Show one run: its settings, state and result."""
    folder = Workspace.current().run(run)
    job = jobs.view(folder)
    details = {
        **_row(job),
        "phase": job.phase,
        "eta_seconds": job.eta_seconds,
        "path": str(folder),
        "result": job.result,
        "settings": jobs.read_config(folder).model_dump(mode="json"),
    }
    if as_json:
        print_json(details)
        return
    eta = f", {duration(job.eta_seconds)} left" if job.eta_seconds is not None else ""
    say(f"{job.id}: {job.state} {job.phase} {job.step:,}/{job.steps:,} steps{eta} {job.reason}".strip())
    typer.echo((folder / "run.yaml").read_text(encoding="utf-8").strip())


@app.command()
def stop(
    run: Run, now: Annotated[bool, typer.Option("--now", help="End it at once, without saving first.")] = False
) -> None:
    """Ask a running job to save and stop."""
    workspace = Workspace.current()
    jobs.stop(workspace.run(run), workspace, now=now)
    say(f"{run} was ended" if now else f"{run} will save and stop after this step")


@app.command()
def resume(
    run: Run,
    detach: Annotated[bool, typer.Option("--detach", help="Start it and return at once.")] = False,
    as_json: Json = False,
) -> int:
    """Go on with a stopped or failed run from its last good checkpoint."""
    workspace = Workspace.current()
    folder = workspace.run(run)
    offset = jobs.resume(folder, workspace)
    if detach:
        if as_json:
            print_json({"run": run, "status": jobs.view(folder).state})
        return 0
    job, code = follow_job(folder, workspace, offset)
    report(job, as_json=as_json)
    return code


@app.command()
def delete(run: Run, as_json: Json = False) -> None:
    """Move a run to the trash."""
    workspace = Workspace.current()
    place = jobs.delete(workspace.run(run), workspace)
    if as_json:
        print_json({"run": run, "trash": str(place)})
    else:
        say(f"{run} is in {place}; delete that folder to free its space, or move it back to keep it")
