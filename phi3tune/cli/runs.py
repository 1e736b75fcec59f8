"""`phi3tune runs`, `stop`, `resume` and `delete`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from phi3tune import jobs
from phi3tune.cli import evaluate, plain_typer, train
from phi3tune.cli.follow import duration, follow_job, print_json, say
from phi3tune.paths import Workspace

app = plain_typer()
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Job = Annotated[
    str,
    typer.Argument(metavar="JOB", help="A run's name, or an evaluation's path, such as runs/lamp/eval/test-eval-1."),
]
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
    job: Job, now: Annotated[bool, typer.Option("--now", help="End it at once, without saving first.")] = False
) -> None:
    """Ask a running job to save and stop."""
    workspace = Workspace.current()
    jobs.stop(jobs.named(job, workspace), workspace, now=now)
    say(f"{job} was ended" if now else f"{job} will save and stop after this step")


@app.command()
def resume(
    job: Job,
    detach: Annotated[bool, typer.Option("--detach", help="Start it and return at once.")] = False,
    as_json: Json = False,
) -> int:
    """Go on with a stopped or failed run or evaluation, from its last good checkpoint or its last answers."""
    workspace = Workspace.current()
    folder = jobs.named(job, workspace)
    offset = jobs.resume(folder, workspace)
    if detach:
        if as_json:
            print_json({"run": job, "status": jobs.view(folder).state})
        return 0
    ended, code = follow_job(folder, workspace, offset)
    if ended.kind == "evaluate":
        evaluate.report(ended, workspace, as_json=as_json)
    else:
        train.report(ended, as_json=as_json)
    return code


@app.command()
def delete(job: Job, as_json: Json = False) -> None:
    """Move a run or an evaluation to the trash."""
    workspace = Workspace.current()
    place = jobs.delete(jobs.named(job, workspace), workspace)
    if as_json:
        print_json({"run": job, "trash": str(place)})
    else:
        say(f"{job} is in {place}; delete that folder to free its space, or move it back to keep it")
