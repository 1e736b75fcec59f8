"""`phi3tune prompts`."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from phi3tune.cli import INTERRUPTED, plain_typer
from phi3tune.cli.flags import config_flags
from phi3tune.cli.follow import Printer, print_json, say
from phi3tune.config import PromptsConfig, parse
from phi3tune.errors import UserError
from phi3tune.events import Event
from phi3tune.paths import Workspace

app = plain_typer()


class _Terminal:
    """Tells what happens, and asks to stop after the answers in hand once Ctrl+C was pressed."""

    def __init__(self) -> None:
        self.interrupted = False
        self._printer = Printer()

    def emit(self, event: Event) -> None:
        self._printer(event)

    def stop_requested(self) -> bool:
        return self.interrupted

    def interrupt(self, *_: object) -> None:
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True
        say("\nstopping after the answers in hand; press Ctrl+C again to end now")


@app.command()
@config_flags(PromptsConfig, skip=("models", "prompts"))
def prompts(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Prompts: .txt, one a line; .jsonl with prompt or messages; .csv.")
    ],
    models: Annotated[list[str] | None, typer.Argument(metavar="MODEL...", help="Models that answer.")] = None,
    *,
    out: Annotated[Path, typer.Option(help="File for the answers, one JSON line each.")] = Path("answers.jsonl"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    settings: dict[str, Any],
) -> int:
    """Have models answer every prompt of a file. Called again with the same --out, it goes on where it was."""
    given = {"models": models} if models else {}
    config = parse(PromptsConfig, {**settings, **given, "prompts": str(file)})
    if not out.absolute().parent.is_dir():
        raise UserError(f"--out {out} is not accepted: its folder does not exist; make it first")
    from phi3tune.evaluation.prompts import answer

    terminal = _Terminal()
    before = signal.signal(signal.SIGINT, terminal.interrupt)
    try:
        result = answer(config, out, Workspace.current(), terminal)
    finally:
        signal.signal(signal.SIGINT, before)
    stopped = result.get("status") == "stopped"
    if as_json:
        print_json({"status": "completed", **result})
    else:
        say(f"the answers so far are kept in {out}; call it again to go on" if stopped else f"answers: {out}")
        if result["failed"]:
            say(f"{result['failed']:,} prompts have no answer; each line's error says why")
    return INTERRUPTED if stopped else 0
