"""`phi3tune train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from phi3tune import jobs
from phi3tune.cli import plain_typer
from phi3tune.cli.flags import config_flags
from phi3tune.cli.follow import print_json, run_job, say
from phi3tune.config import TrainConfig, parse, read_yaml
from phi3tune.paths import Workspace

app = plain_typer()


@app.command()
@config_flags(TrainConfig)
def train(
    *,
    config: Annotated[Path | None, typer.Option(help="YAML file of settings; flags win over it.")] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Start the run and return at once.")] = False,
    plan_only: Annotated[
        bool, typer.Option("--plan", help="Print what the run would take (time, memory, disk, cost); start nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    settings: dict[str, Any],
) -> int:
    """Fine-tune a model on chats. Ctrl+C saves and stops; a second one stops at once."""
    values = {**(read_yaml(config) if config is not None else {}), **settings}
    checked = parse(TrainConfig, values)
    if plan_only:
        from phi3tune.cli.plan_text import show_plan

        return show_plan(checked, Workspace.current(), as_json=as_json)
    return start(checked, detach=detach, as_json=as_json)


def start(config: TrainConfig, *, detach: bool, as_json: bool) -> int:
    """Queue a run and, unless it is detached, follow it to its end; the exit code."""
    workspace = Workspace.current()
    if config.machine_rank:
        return _join(config, workspace, as_json=as_json)
    if detach:
        folder = jobs.submit("train", config, workspace)
        job = jobs.view(folder)
        say(f"{folder.name} started; follow it on the page or with: phi3tune runs show {folder.name}")
        if as_json:
            print_json({"run": job.id, "status": job.state})
        return 0
    job, code = run_job("train", config, workspace)
    report(job, as_json=as_json)
    return code


def _join(config: TrainConfig, workspace: Workspace, *, as_json: bool) -> int:
    """Be one of the machines of a run that machine 0 keeps, to its end; the exit code."""
    from phi3tune.training import spread

    say(f"machine {config.machine_rank} of {config.machines} joins the run of {config.main_address}")
    try:
        result = spread.join(config, workspace)
    except spread.ProcessDiedError as error:
        say(str(error))
        return 1
    if as_json:
        print_json(result)
    else:
        say(f"the run is {result['status']} after {result['steps']:,} steps; machine 0 keeps it")
    return 0


def report(job: jobs.JobView, *, as_json: bool) -> None:
    """How a run ended, for people or as JSON."""
    if as_json:
        print_json({"run": job.id, "status": job.state, **job.result, **({"reason": job.reason} if job.reason else {})})
    elif job.state == "completed":
        result = job.result
        say(f"{job.id} is tuned: {result['steps']:,} steps, train loss {result['train_loss']:.4f}")
        settings = jobs.read_config(job.folder)
        assert isinstance(settings, TrainConfig)
        say(f"next: phi3tune evaluate {settings.model} {job.id} --dataset {settings.dataset}")
    elif job.state in ("stopped", "paused"):
        say(f"{job.id} is {job.state}; go on with: phi3tune resume {job.id}")
