"""`phi3tune models`: check, download, list."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from phi3tune.cli import plain_typer
from phi3tune.cli.follow import print_json, run_job, say
from phi3tune.paths import Workspace

app = plain_typer()
models_app = plain_typer(no_args_is_help=True, help="Look at, download and list models of the Hub.")
app.add_typer(models_app, name="models")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
HubId = Annotated[str, typer.Argument(metavar="ID", help="Hub id, as owner/name.")]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit; without it, the main branch.")]


@models_app.command()
def check(hub_id: HubId, *, revision: Revision = None, as_json: Json = False) -> int:
    """Ask the Hub whether a model can be used and what that takes. Exit code 1 when it cannot."""
    from phi3tune.engines import hub_models

    found = hub_models.examine(hub_id, revision)
    if as_json:
        print_json({**asdict(found), "cached": found.cached})
        return 1 if found.problems else 0
    access = [word for word, is_so in (("private", found.private), ("gated", found.gated)) if is_so]
    facts = {
        "model": found.hub_id,
        "commit": found.commit,
        "class": found.architecture,
        "licence": found.license or "not told",
        "access": " and ".join(access) or "open",
        "size": f"{found.bytes_total / 1e9:,.2f} GB in {len(found.files)} files",
        "to download": f"{found.bytes_to_download / 1e9:,.2f} GB",
        "disk": f"{found.disk_free / 1e9:,.1f} GB free in {found.cache}",
    }
    for name, value in facts.items() if found.commit else ():
        typer.echo(f"{name:<12} {value}")
    for problem in found.problems:
        say(f"phi3tune: {problem}")
    return 1 if found.problems else 0


@models_app.command()
def download(hub_id: HubId, *, revision: Revision = None, as_json: Json = False) -> int:
    """Fetch a model into the Hub client's cache. Ctrl+C stops; the next call goes on from there."""
    from phi3tune.config import DownloadConfig, parse

    config = parse(DownloadConfig, {"model": hub_id, "revision": revision})
    job, code = run_job("download", config, Workspace.current())
    if as_json:
        print_json({"model": hub_id, "status": job.state, **job.result})
    elif job.state == "completed":
        say(f"{hub_id} is here: {job.result['path']}")
    return code


@models_app.command("list")
def list_models(as_json: Json = False) -> None:
    """List what can be named as a model: phi3-nano, runs, builds, and Hub models in the cache."""
    from phi3tune.engines import hub_models, models

    listed = models.list_models(Workspace.current())
    found = [(ref.ref, ref.kind, str(ref.base), ref.failing) for ref in listed]
    found += [(str(model), "torch", str(folder), False) for model, folder in hub_models.cached_models()]
    if as_json:
        keys = ("model", "kind", "path", "failing")
        print_json({"models": [dict(zip(keys, each, strict=True)) for each in found]})
        return
    width = max(len(name) for name, *_ in found)
    for name, kind, path, failing in found:
        typer.echo(f"{name:<{width}}  {kind:<20}  {path}" + (f"  ({models.FAILING})" if failing else ""))
