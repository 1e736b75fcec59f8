"""`phi3tune data`."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from phi3tune.cli import plain_typer
from phi3tune.cli.flags import config_flags
from phi3tune.cli.follow import print_json, say
from phi3tune.config import DatasetConfig, Part, TrainConfig, parse
from phi3tune.errors import UserError
from phi3tune.paths import Workspace

app = plain_typer(no_args_is_help=True)
Dataset = Annotated[
    str, typer.Argument(metavar="FILE", help="A file, a folder, a stored dataset, a bundled name or a Hub dataset id.")
]
Model = Annotated[str, typer.Option(help="Model whose tokenizer counts the tokens.")]
MaxLength = Annotated[int | None, typer.Option(metavar="N", help="Longest row; what is beyond is cut [tokens].")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.callback()
def data() -> None:
    """Look at a dataset before training on it."""


@app.command()
@config_flags(DatasetConfig, skip=("dataset",))
def check(
    file: Dataset,
    *,
    model: Model = "phi3-nano",
    max_length: MaxLength = None,
    fix: Annotated[bool, typer.Option("--fix", help="Write a new version with what can be repaired.")] = False,
    drop: Annotated[
        str, typer.Option(metavar="CODE,CODE", help="Write a new version without the rows of these findings.")
    ] = "",
    as_json: AsJson = False,
    settings: dict[str, Any],
) -> int:
    """Report rows, format, token lengths, every problem and finding. Exit code 1 when there is an error."""
    from phi3tune import data as datasets
    from phi3tune.data.audit.findings import KINDS, drop_rows

    codes = [code.strip() for code in drop.split(",") if code.strip()]
    unknown = [code for code in codes if code not in KINDS]
    if unknown:
        raise UserError(f"--drop {unknown[0]!r} is not accepted; the codes are {', '.join(KINDS)}")
    workspace = Workspace.current()
    config = _config(file, settings, max_length)
    renderer = _renderer(model, workspace)
    found = datasets.check(config, workspace, renderer)
    problems = found["problems"]
    version = None
    if fix or codes:
        try:
            version = datasets.new_version(config, workspace, repair=fix, drop=drop_rows(found["findings"], codes))
        except datasets.DataError as error:  # what no repair mends: it is told as a problem of the file
            say(f"no new version was made: {error}")
        else:
            made = parse(DatasetConfig, {"dataset": version.id})
            problems = datasets.check(made, workspace, languages=False)["problems"]
        found["version"] = None if version is None else _as_json(version)
    if as_json:
        print_json(found)
    else:
        from phi3tune.cli.data_text import print_check, print_version

        print_check(found)
        if version is not None:
            print_version(version)
    return 1 if any(problem["severity"] == "error" for problem in problems) else 0


@app.command()
@config_flags(DatasetConfig, skip=("dataset",))
def show(
    file: Dataset,
    *,
    row: Annotated[int, typer.Option(metavar="N", help="Number of the row, from 0.", min=0)],
    part: Annotated[str | None, typer.Option(metavar="train|validation|test", help="Count in this part.")] = None,
    model: Model = "phi3-nano",
    max_length: MaxLength = None,
    as_json: AsJson = False,
    settings: dict[str, Any],
) -> int:
    """Print one row as the model sees it: which tokens are learned, special or cut."""
    from phi3tune.data.token_view import find_row, tokens

    workspace = Workspace.current()
    config = _config(file, settings, max_length)
    conversation = find_row(config, workspace, row, _part(part))
    sequence = tokens(conversation, _renderer(model, workspace), config.max_length)
    if as_json:
        place = {"file": conversation.file, "row": conversation.row, "line": conversation.line}
        print_json(place | {"max_length": config.max_length, "tokens": [token.model_dump() for token in sequence]})
    else:
        from phi3tune.cli.data_text import token_line

        learned, cut = sum(token.learned for token in sequence), sum(token.cut for token in sequence)
        say(f"{conversation.file} row {conversation.row}: {len(sequence):,} tokens, {learned:,} learned, {cut:,} cut")
        typer.echo(token_line(sequence, colour=sys.stdout.isatty()))
    return 0


@app.command("list")
def list_(*, as_json: AsJson = False) -> int:
    """List the stored and the bundled datasets."""
    from phi3tune.data.stored import list_datasets

    infos = list_datasets(Workspace.current())
    if as_json:
        rows = [
            {"id": i.id, "name": i.name, "kind": i.kind, "path": str(i.path), "version": i.version, "parent": i.parent}
            for i in infos
        ]
        print_json({"datasets": rows})
    else:
        from phi3tune.cli.data_text import print_datasets

        print_datasets(infos)
    return 0


def _config(file: str, settings: dict[str, Any], max_length: int | None) -> TrainConfig:
    given = {} if max_length is None else {"max_length": max_length}
    return parse(TrainConfig, {**settings, **given, "dataset": file})


def _renderer(model: str, workspace: Workspace) -> Any:
    from phi3tune.chat import Renderer
    from phi3tune.engines import models

    return Renderer.load(models.resolve(model, workspace).tokenizer)


def _part(name: str | None) -> Part | None:
    match name:
        case None | "train" | "validation" | "test":
            return name
    raise UserError(f"--part {name!r} is not accepted; the parts are train, validation and test")


def _as_json(version: Any) -> dict[str, Any]:
    import dataclasses

    return {**dataclasses.asdict(version), "path": str(version.path)}
