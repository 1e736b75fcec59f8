"""`phi3tune classify`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from phi3tune.cli import plain_typer
from phi3tune.cli.follow import print_json, say
from phi3tune.errors import UserError
from phi3tune.paths import Workspace

app = plain_typer()


@app.command()
def classify(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A classification run or a build of it.")],
    texts: Annotated[list[str] | None, typer.Argument(metavar="[TEXT]...", help="Texts to classify.")] = None,
    *,
    file: Annotated[Path | None, typer.Option(help="A file with one text on a line; - is standard input.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Choose a label for texts, with its probability."""
    given = _texts(texts or [], file)
    from phi3tune.engines import models
    from phi3tune.engines.classifier import open_classifier

    ref = models.resolve(model, Workspace.current())
    if ref.failing:
        say(f"warning: {ref.ref} does not answer like the model that it was built from; see its parity report")
    say(f"loading {ref.label}")
    classifier = open_classifier(ref)
    try:
        found = classifier.classify(given)
    finally:
        classifier.close()
    if as_json:
        results = [{"text": text, **each} for text, each in zip(given, found, strict=True)]
        print_json({"model": ref.ref, "labels": list(classifier.labels), "results": results})
        return 0
    for text, each in zip(given, found, strict=True):
        sys.stdout.write(f"{each['label']}\t{each['score']:.4f}\t{text}\n")
        if each["truncated"]:
            say(f"{text[:40]!r}... is longer than the model's context; its end was not read")
    return 0


def _texts(texts: list[str], file: Path | None) -> list[str]:
    """The texts that were given. Raises `UserError` when there is none, or the file cannot be read."""
    if (file is None) == (not texts):
        raise UserError("give texts behind the model, or --file with one text on a line; one of the two")
    if file is None:
        return texts
    try:
        content = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--file {file} cannot be read as UTF-8 text: {error}") from None
    found = [line.strip() for line in content.splitlines() if line.strip()]
    if not found:
        raise UserError(f"--file {file} holds no text; write one text on a line")
    return found
