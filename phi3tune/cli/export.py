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
    from phi3tune.export import words

    say(f"{result['path']}  {result['size_bytes'] / 1e6:,.1f} MB")
    for row in result.get("tried", ()):
        say(_tried(row))
    parity = result.get("parity")
    if parity is None:
        return
    say(f"parity with the merged model: {'passed' if parity['passed'] else 'FAILED'}")
    if not parity["passed"]:
        say(words.verdict(parity))
    header, rows = words.figures(parity)
    for cells in [header, *rows]:
        say(f"  {cells[0]:<32}{cells[1]:>16}" + "".join(f"{cell:>22}" for cell in cells[2:]))
    for name, value in words.measured(parity.get("measured")):
        say(f"  {name:<32}{value:>16}")


def _tried(row: dict[str, Any]) -> str:
    """One build of --auto in a line."""
    from phi3tune.export import words

    speed = row.get("decode_tokens_per_second")
    said = [
        f"  {'*' if row['chosen'] else ' '} {row['build']:<28}{row['size_bytes'] / 1e6:>10,.1f} MB",
        f"mean KL {words.number(row.get('kl_mean'), '.2e')}" if "kl_mean" in row else "beyond the limits",
        f"{speed:,.1f} tokens/s" if speed is not None else "",
    ]
    return "  ".join(filter(None, said))
