"""The command line. Each command's module is imported only when that command is called."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from phi3tune.errors import UserError

# name -> (module below phi3tune.cli, its sentence in --help)
COMMANDS = {
    "app": ("app", "Open the page in a browser: train, evaluate, talk."),
    "data": ("data", "Look at a dataset before training on it."),
    "train": ("train", "Fine-tune a model on chats."),
    "runs": ("runs", "List runs, or show one."),
    "sweep": ("sweep", "Try combinations of settings, one run for each, and rank them."),
    "sweeps": ("sweep", "List sweeps, or show one as a ranked table."),
    "stop": ("runs", "Ask a running job to save and stop."),
    "pause": ("runs", "Ask a job to save and make room for the others; resumed, it is the next to run."),
    "resume": ("runs", "Go on with a stopped, paused or failed run or evaluation."),
    "queue": ("queue", "List what runs and waits, or change the order."),
    "delete": ("runs", "Move a run or an evaluation to the trash."),
    "evaluate": ("evaluate", "Score models side by side on the same held-out rows."),
    "export": ("export", "Merge a run, or build it for onnxruntime-genai."),
    "builds": ("builds", "List builds, or show, pack or delete one."),
    "push": ("builds", "Publish a model on the Hugging Face Hub, with its model card."),
    "chat": ("chat", "Talk to a model in the terminal."),
    "prompts": ("prompts", "Have models answer every prompt of a file."),
    "votes": ("votes", "Show which answers people preferred in the playground."),
    "serve": ("serve", "Serve models over OpenAI's HTTP interface."),
    "keys": ("keys", "Make, list and revoke API keys of endpoints."),
    "conformance": ("conformance", "Check that an endpoint keeps to OpenAI's interface."),
    "guards": ("guards", "Check a file of guards, and what they say of a text."),
    "monitor": ("monitor", "Show how endpoints did, and whether what is asked has drifted."),
    "classify": ("classify", "Choose a label for texts, with a classification run."),
    "models": ("models", "Look at, download and list models of the Hub."),
    "clean": ("clean", "Show how much room the workspace takes, and delete what is not needed."),
    "doctor": ("doctor", "Print versions, device, memory, disk, and what is missing."),
}
INTERRUPTED = 130


class LazyGroup(TyperGroup):
    """Lists commands from the table above, so that help does not import what it describes."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"phi3tune.cli.{COMMANDS[cmd_name][0]}")
        commands = typer.main.get_command(module.app)
        if isinstance(commands, typer.core.TyperGroup) and cmd_name in commands.commands:
            return commands.commands[cmd_name]
        commands.name = cmd_name
        return commands

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, sentence) for name, (_, sentence) in COMMANDS.items()])


def plain_typer(**settings: Any) -> typer.Typer:
    """A Typer app with the house settings: plain help (importing rich would double its time)."""
    return typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, **settings)


root = plain_typer(cls=LazyGroup, no_args_is_help=True)


@root.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    """Fine-tune Phi-3 on your own chats, measure it, export it to ONNX, and talk to all of them."""
    if version:
        from phi3tune import __version__

        typer.echo(__version__)
        raise typer.Exit()


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code (0 done, 1 failed, 2 the user's mistake, 130 interrupted)."""
    command = typer.main.get_command(root)
    try:
        code = command.main(
            args=list(sys.argv[1:] if argv is None else argv), prog_name="phi3tune", standalone_mode=False
        )
    except UserError as error:
        sys.stderr.write(f"phi3tune: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        # Typer carries its own copy of click; its mistakes know how to show themselves.
        if hasattr(error, "show") and hasattr(error, "exit_code"):
            error.show()
            return int(error.exit_code)
        if type(error).__name__ == "Abort":
            return INTERRUPTED
        raise
    return code if isinstance(code, int) else 0
