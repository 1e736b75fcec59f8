"""`phi3tune queue`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from phi3tune import jobs
from phi3tune.cli import plain_typer
from phi3tune.cli.follow import duration, print_json, say
from phi3tune.paths import Workspace

app = plain_typer()
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Job = Annotated[str, typer.Argument(metavar="JOB", help="A waiting job, as `phi3tune queue` names it.")]


@app.callback(invoke_without_command=True)
def queue(ctx: typer.Context, as_json: Json = False) -> None:
    """List what runs and waits, or change the order."""
    if ctx.invoked_subcommand is not None:
        return
    workspace = Workspace.current()
    jobs.dispatch(workspace)
    rows = [_row(job, workspace) for job in jobs.active(workspace)]
    if as_json:
        print_json({"jobs": rows})
    elif not rows:
        say("nothing runs and nothing waits")
    else:
        from rich.console import Console
        from rich.table import Table

        table = Table("job", "kind", "status", "position", "step", "left")
        for row in rows:
            left = "-" if row["eta_seconds"] is None else duration(row["eta_seconds"])
            steps = f"{row['step']:,}/{row['steps']:,}"
            table.add_row(row["job"], row["kind"], row["status"], str(row["position"] or "-"), steps, left)
        Console().print(table)


def _row(job: jobs.JobView, workspace: Workspace) -> dict[str, Any]:
    return {
        "job": job.id if job.kind == "train" else job.folder.relative_to(workspace.root).as_posix(),
        "kind": job.kind,
        "status": job.state,
        "position": job.queue_position,
        "step": job.step,
        "steps": job.steps,
        "eta_seconds": job.eta_seconds,
    }


@app.command()
def move(
    job: Job,
    position: Annotated[int, typer.Argument(metavar="POSITION", help="From 1, the next to run.")],
) -> None:
    """Put a waiting job at another position."""
    workspace = Workspace.current()
    jobs.reorder(jobs.named(job, workspace), workspace, position)
    say(f"{job} is at position {position}")


@app.command()
def cancel(job: Job) -> None:
    """Take a waiting job out of the queue; one that runs goes on."""
    workspace = Workspace.current()
    jobs.cancel(jobs.named(job, workspace), workspace)
    say(f"{job} was taken out of the queue")
