"""`phi3tune export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from phi3tune.cli import plain_typer
from phi3tune.cli.flags import config_flags
from phi3tune.cli.follow import print_json, run_job, say
from phi3tune.config import ExportConfig, parse, read_yaml
from phi3tune.paths import Workspace

app = plain_typer()


@app.command()
@config_flags(ExportConfig, skip=("model",))
def export(
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help="A run, a checkpoint or a Phi-3 folder.")] = None,
    *,
    config: Annotated[Path | None, typer.Option(help="YAML file of settings; flags win over it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    settings: dict[str, Any],
) -> int:
    """Merge a run, or build it for an ONNX runtime and prove that the build behaves like it."""
    given = {"model": model} if model is not None else {}
    checked = parse(ExportConfig, {**(read_yaml(config) if config is not None else {}), **settings, **given})
    job, code = run_job("export", checked, Workspace.current())
    if as_json:
        print_json({"status": job.state, **job.result, **({"reason": job.reason} if job.reason else {})})
    elif job.state == "completed":
        _summary(job.result)
    parity = job.result.get("parity")
    return 1 if code == 0 and parity is not None and not parity["passed"] else code


def _summary(result: dict[str, Any]) -> None:
    say(f"{result['path']}  {result['size_bytes'] / 1e6:,.1f} MB")
    parity = result.get("parity")
    if parity is not None:
        say(f"parity with the merged model: {'passed' if parity['passed'] else 'FAILED'}")
        if parity.get("task") == "classification":
            say(f"same label {_number(parity['same_label'], '.1%')} of the time")
            say(f"a label's probability differs by {_number(parity['max_difference'], '.2e')} at most")
            return
        say(f"mean KL divergence {_number(parity['kl_mean'], '.2e')} nats")
        say(f"same next token {_number(parity['top1_agreement'], '.2%')} of the time")
        say(f"same greedy answer {_number(parity['greedy_match'], '.1%')} of the time")


def _number(value: float | None, form: str) -> str:
    """A build that computes no numbers has no figures."""
    return "not a number" if value is None else format(value, form)
