"""A plan on the terminal."""

from __future__ import annotations

import typer

from phi3tune.cli.follow import duration, print_json
from phi3tune.config import TrainConfig
from phi3tune.paths import Workspace
from phi3tune.training.plan import Plan, plan

WORDS = {"fits": "fits", "tight": "is tight", "does_not_fit": "does not fit"}


def show_plan(config: TrainConfig, workspace: Workspace, *, as_json: bool) -> int:
    """Print a run's plan; 1 when it does not fit into memory or on the disk."""
    found = plan(config, workspace)
    if as_json:
        print_json(found.as_dict())
    else:
        for line in lines(found):
            typer.echo(line)
    return 1 if found.verdict == "does_not_fit" or found.disk_needed > found.disk_free else 0


def lines(found: Plan) -> list[str]:
    """The plan for people."""
    memory = found.memory.as_dict()
    parts = ", ".join(f"{name} {_size(size)}" for name, size in memory.items() if name != "peak" and size)
    told = [
        f"steps   {found.steps:,} of {found.batch_size} rows, {found.micro_batch} at once: {found.epochs:g} epochs",
        f"rows    {found.rows:,}, {found.tokens:,} tokens an epoch, {found.trained_tokens:,} of them learned from",
        f"time    about {duration(found.seconds)} ({duration(found.seconds_low)} to {duration(found.seconds_high)}): "
        f"{found.tokens_per_second:,.0f} tokens per second, from {found.speed_source}",
        f"memory  {_size(found.memory.peak)} at the peak, {_size(found.memory_free)} free of "
        f"{_size(found.device_memory)} on {found.device}: {WORDS[found.verdict]}",
        f"        {parts}{'; activations are computed again' if found.checkpointing else ''}",
        f"disk    {_size(found.disk_needed)} needed, {_size(found.disk_free)} free",
    ]
    if found.remedy is not None:
        told.insert(5, f"        {found.remedy.flag} makes it fit: {_size(found.remedy.peak)}")
    elif found.verdict == "does_not_fit":
        told.insert(5, "        no single setting makes it fit; take a smaller model")
    if found.download:
        told.append(f"hub     {_size(found.download)} to download first")
    if found.cost:
        told.append(f"cost    {found.cost:,.2f}")
    return told


def _size(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.0f} MB"
