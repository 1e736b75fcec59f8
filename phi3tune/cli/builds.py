"""`phi3tune builds` and `phi3tune push`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from phi3tune.cli import plain_typer
from phi3tune.cli.follow import Printer, print_json, say
from phi3tune.paths import Workspace

app = plain_typer()
builds_app = plain_typer()
app.add_typer(builds_app, name="builds")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Name = Annotated[str, typer.Argument(metavar="BUILD", help="A build, as in `phi3tune builds`.")]


@builds_app.callback(invoke_without_command=True)
def builds(ctx: typer.Context, as_json: Json = False) -> None:
    """List builds, newest first, with their proof, or show, pack or delete one."""
    if ctx.invoked_subcommand is not None:
        return
    from phi3tune import builds as library

    found = library.list_builds(Workspace.current())
    if as_json:
        print_json({"builds": [library.as_json(build) for build in found]})
    elif not found:
        say("no builds yet; make one with: phi3tune export MODEL")
    else:
        from rich.console import Console
        from rich.table import Table

        table = Table("build", "form", "precision", "parity", "size", "mean KL", "decode tok/s")
        table.columns[0].overflow = "fold"  # a name that is cut names nothing
        for build in found:
            divergence = (build.parity or {}).get("kl_mean")
            speed = build.measured.get("decode_tokens_per_second")
            table.add_row(
                build.label,
                build.form,
                build.precision or "-",
                "FAILED" if build.failing else build.verdict,
                f"{build.size_bytes / 1e6:,.1f} MB",
                "-" if divergence is None else f"{divergence:.2e}",
                "-" if speed is None else f"{speed:,.1f}",
            )
        Console().print(table)


@builds_app.command("show")
def show(name: Name, as_json: Json = False) -> int:
    """Show how a build compares with its model. Exit code 1 when it fails parity."""
    from phi3tune import builds as library
    from phi3tune.export import words

    build = library.find(name, Workspace.current())
    if as_json:
        print_json(library.as_json(build))
        return 1 if build.failing else 0
    typer.echo(f"{build.label}: {build.form} of {build.model}, {build.size_bytes / 1e6:,.1f} MB in {build.path}")
    if build.parity is not None:
        typer.echo(words.verdict(build.parity))
        header, rows = words.figures(build.parity)
        for row in [header, *rows, *words.measured(build.measured)]:
            typer.echo(f"  {row[0]:<36}" + "".join(f"{cell:>18}" for cell in row[1:]))
    return 1 if build.failing else 0


@builds_app.command("delete")
def delete(name: Name, as_json: Json = False) -> None:
    """Move a build to the trash; refused while it is in use."""
    from phi3tune import builds as library

    workspace = Workspace.current()
    build = library.find(name, workspace)
    place = library.delete(build, workspace)
    if as_json:
        print_json({"build": build.label, "size_bytes": build.size_bytes, "trash": str(place)})
    else:
        say(f"{build.label}, {build.size_bytes / 1e6:,.1f} MB, is now in {place}; delete that folder to free the space")


@builds_app.command("archive")
def archive(
    name: Name,
    out: Annotated[Path | None, typer.Option(help="File to write; without it, BUILD.zip in this folder.")] = None,
    as_json: Json = False,
) -> None:
    """Pack a build into one zip file, with its model card and without paths of this machine."""
    from phi3tune import builds as library

    workspace = Workspace.current()
    build = library.find(name, workspace)
    path = library.archive(build, workspace, (out or Path(library.archive_name(build))).absolute())
    if as_json:
        print_json({"build": build.label, "path": str(path), "size_bytes": path.stat().st_size})
    else:
        say(f"{path}  {path.stat().st_size / 1e6:,.1f} MB")


class _Terminal:
    """Shows what happens; Ctrl+C ends it, since nothing is published before the last step."""

    def __init__(self) -> None:
        self.emit = Printer()

    def stop_requested(self) -> bool:
        return False


@app.command()
def push(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A run, merged weights or a build.")],
    repo: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The model on the Hub; made when it is not there.")],
    *,
    private: Annotated[bool, typer.Option("--private", help="Only its owner and whom they admit may see it.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Push also a build that fails parity.")] = False,
    as_json: Json = False,
) -> None:
    """Publish a model on the Hugging Face Hub, with its model card. Log in with `hf auth login`, or set HF_TOKEN."""
    from phi3tune.engines.models import resolve
    from phi3tune.export.push import push as send

    workspace = Workspace.current()
    terminal = _Terminal()
    found = send(resolve(model, workspace, download=False), repo, workspace, terminal, private=private, force=force)
    assert found is not None  # nobody stops it
    if as_json:
        print_json({"model": model, **found})
    else:
        say(f"{found['url']}  {found['bytes'] / 1e6:,.1f} MB in {len(found['files'])} files")
