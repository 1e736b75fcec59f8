"""`phi3tune runs`, `stop`, `pause`, `resume` and `delete`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from phi3tune import builds, jobs
from phi3tune.about import edit_about
from phi3tune.cli import evaluate, iterate, plain_typer, train
from phi3tune.cli.follow import duration, follow_job, print_json, say
from phi3tune.errors import UserError
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
runs_app.add_typer(iterate.app)


@runs_app.callback(invoke_without_command=True)
def runs(
    ctx: typer.Context,
    project: Annotated[str | None, typer.Option(help="Only the runs of this project.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only the runs with this tag.")] = None,
    as_json: Json = False,
) -> None:
    """List runs, oldest first, or show one."""
    if ctx.invoked_subcommand is not None:
        return
    workspace = Workspace.current()
    found = jobs.runs(workspace, project=project, tag=tag)
    if project is not None and project not in (known := jobs.projects(workspace)):
        raise UserError(f"there is no project {project!r}; projects: {', '.join(known) or 'none yet'}")
    if as_json:
        print_json({"runs": [_row(job) for job in found]})
    elif not found and tag is not None:
        say(f"no run has the tag {tag!r}")
    elif not found:
        say("no runs yet; start one with: phi3tune train --dataset lantern-support")
    else:
        from rich.console import Console
        from rich.table import Table

        table = Table("run", "project", "tags", "status", "step", "resume from", "reason")
        for job in found:
            row = _row(job)
            table.add_row(
                job.id if job.title == job.id else f"{job.id}: {job.title}",
                job.project or "-",
                ", ".join(job.tags) or "-",
                job.state,
                f"{job.step:,}/{job.steps:,}",
                str(row["resume_step"] or "-"),
                job.reason or "-",
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
        **job.about.model_dump(mode="json", include={"title", "project", "tags"}),
    }


@runs_app.command("show")
def show(run: Run, as_json: Json = False) -> None:
    """Show one run: its settings, state and result."""
    workspace = Workspace.current()
    folder = workspace.run(run)
    job = jobs.view(folder)
    made = [build for build in builds.list_builds(workspace) if build.path.is_relative_to(folder)]
    details = {
        **_row(job),
        "note": job.about.note,
        "phase": job.phase,
        "eta_seconds": job.eta_seconds,
        "path": str(folder),
        "builds": [{"build": build.ref, "parity": build.verdict} for build in made],
        "result": job.result,
        "settings": jobs.read_config(folder).model_dump(mode="json"),
    }
    if as_json:
        print_json(details)
        return
    eta = f", {duration(job.eta_seconds)} left" if job.eta_seconds is not None else ""
    say(f"{job.id}: {job.state} {job.phase} {job.step:,}/{job.steps:,} steps{eta} {job.reason}".strip())
    if job.about.note:
        say(job.about.note)
    for build in made:
        say(f"build {build.ref}: parity {build.verdict}")
    typer.echo((folder / "run.yaml").read_text(encoding="utf-8").strip())


@runs_app.command("edit")
def edit(
    run: Run,
    title: Annotated[str | None, typer.Option(help="What lists call it; the run keeps its name.")] = None,
    project: Annotated[str | None, typer.Option(help="Project that it is listed under; '' for none.")] = None,
    tags: Annotated[str | None, typer.Option(help="All its tags, as a,b; '' for none.")] = None,
    note: Annotated[str | None, typer.Option(help="A remark kept with the run; '' for none.")] = None,
    as_json: Json = False,
) -> None:
    """Change the title, project, tags or note of a run, at any time."""
    given = {"title": title, "project": project, "tags": tags, "note": note}
    changes = {name: value for name, value in given.items() if value is not None}
    if not changes:
        raise UserError(f"nothing to change in {run}: give --title, --project, --tags or --note")
    about = edit_about(Workspace.current().run(run), **changes)
    if as_json:
        print_json({"run": run, **about.model_dump(mode="json")})
    else:
        say(f"{run}: {', '.join(changes)} changed")


@app.command()
def stop(
    job: Job, now: Annotated[bool, typer.Option("--now", help="End it at once, without saving first.")] = False
) -> None:
    """Ask a running job to save and stop."""
    workspace = Workspace.current()
    jobs.stop(jobs.named(job, workspace), workspace, now=now)
    say(f"{job} was ended" if now else f"{job} will save and stop after this step")


@app.command()
def pause(job: Job) -> None:
    """Ask a job to save and make room for the others; resumed, it is the next to run."""
    workspace = Workspace.current()
    folder = jobs.named(job, workspace)
    jobs.pause(folder, workspace)
    done = "is paused" if jobs.view(folder).state == "paused" else "will save and pause after this step"
    say(f"{job} {done}; go on with: phi3tune resume {job}")


@app.command()
def resume(
    job: Job,
    detach: Annotated[bool, typer.Option("--detach", help="Start it and return at once.")] = False,
    as_json: Json = False,
) -> int:
    """Go on with a stopped, paused or failed run or evaluation, from its last good checkpoint or its last answers."""
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
    elif ended.kind == "train":
        train.report(ended, as_json=as_json)
    elif as_json:
        print_json({"status": ended.state, **ended.result, **({"reason": ended.reason} if ended.reason else {})})
    else:
        say(f"{job}: {ended.state}")
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
