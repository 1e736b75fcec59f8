"""`phi3tune doctor`."""

from __future__ import annotations

from typing import Annotated

import typer

from phi3tune.cli import plain_typer
from phi3tune.cli.follow import print_json
from phi3tune.paths import Workspace

app = plain_typer()


@app.command()
def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> int:
    """Print versions, device, memory, disk, and what is missing. Exit code 1 when something is."""
    from phi3tune.doctor import examine

    report = examine(Workspace.current())
    if as_json:
        print_json(report.as_dict())
    else:
        lines = {
            "phi3tune": report.phi3tune,
            "python": f"{report.python} on {report.platform}",
            **{name: version or "missing" for name, version in report.versions.items()},
            "device": f"{report.device}, trains in {report.training_dtype}",
            "cores used": str(report.cores),
            "memory": f"{report.memory_available / 1e9:.1f} of {report.memory_total / 1e9:.1f} GB available",
            "quantisation": report.quantisation,
            "calibration": report.calibration,
            "workspace": f"{report.workspace} ({report.disk_free / 1e9:.1f} GB free)",
            "hub cache": f"{report.cache} ({report.cache_disk_free / 1e9:.1f} GB free)",
            "hub": report.hub,
            "hub token": f"from {report.hub_token}" if report.hub_token else "none",
            "optional": ", ".join(f"{name} {version}" for name, version in report.optional.items() if version)
            or "none",
        }
        width = max(map(len, lines))
        for name, value in lines.items():
            typer.echo(f"{name:<{width}}  {value}")
        for problem in report.problems:
            typer.echo(f"missing: {problem}")
        typer.echo(f"{len(report.problems)} problem(s)" if report.problems else "nothing is missing")
    return 1 if report.problems else 0
