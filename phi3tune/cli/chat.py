"""`phi3tune chat`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phi3tune import conversations, presets
from phi3tune.cli import plain_typer
from phi3tune.cli.flags import config_flags
from phi3tune.cli.follow import say
from phi3tune.config import SamplingConfig, parse
from phi3tune.conversations import Chat, Conversation, Turn
from phi3tune.errors import UserError
from phi3tune.paths import Workspace

if TYPE_CHECKING:
    from phi3tune.engines.base import Engine

app = plain_typer()
HELP = """/system TEXT   set the system prompt; without TEXT, none
/regenerate    answer the last question again, with the next seed
/undo          take back the last question and its answer
/reset         begin a new chat
/save FILE     write the chat as JSON, which --load and the playground read
/help          this list
An empty line or Ctrl+D ends the chat; Ctrl+C ends an answer."""


@app.command()
@config_flags(SamplingConfig)
def chat(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="phi3-nano, a run, a build, a folder or an endpoint.")
    ] = "phi3-nano",
    *,
    preset: Annotated[str | None, typer.Option(help="Settings that the playground keeps; flags win over them.")] = None,
    load: Annotated[Path | None, typer.Option(help="Go on with a chat of this file.")] = None,
    settings: dict[str, Any],
) -> None:
    """Talk to a model in the terminal. A line that begins with / is a command; /help lists them.

    A classifier answers each text for itself, with its labels and their probabilities.
    """
    workspace = Workspace.current()
    named = presets.load(preset, workspace).model_dump() if preset is not None else {}
    held = conversations.read(load).chats[0] if load is not None else Chat()
    before = held.settings.model_dump() if load is not None else {}
    held.turns = held.turns[: len(held.turns) // 2 * 2]  # a question without its answer is not gone on with
    held.settings = parse(SamplingConfig, {**before, **named, **settings})
    from phi3tune.engines import models, open_engine

    ref = models.resolve(model, workspace)
    if ref.failing:
        say(f"warning: {ref.ref} does not answer like the model that it was built from; see its parity report")
    say(f"loading {ref.label}")
    engine: Engine = open_engine(ref)
    try:
        talk = Talk(engine, held, ref.label)
        while line := _ask():
            talk.take(line)
    finally:
        engine.close()


def _ask() -> str:
    if sys.stdin.isatty():
        sys.stderr.write("> ")
        sys.stderr.flush()
    return sys.stdin.readline().strip()


class Talk:
    """One chat with one engine: what is typed is a question or a command."""

    def __init__(self, engine: Engine, held: Chat, label: str) -> None:
        self._engine = engine
        self._held = held
        self._held.model = label
        self._commands: dict[str, Callable[[str], None]] = {
            "system": self._system,
            "regenerate": self._regenerate,
            "undo": self._undo,
            "reset": self._reset,
            "save": self._save,
            "help": lambda _: say(HELP),
        }

    def take(self, line: str) -> None:
        """Answer a question, or do what a command says. A mistake is told, and the chat goes on."""
        try:
            if not line.startswith("/"):
                self._answer(line)
                return
            name, _, rest = line[1:].partition(" ")
            if name not in self._commands:
                raise UserError(f"there is no command /{name[:40]}; the commands are /{', /'.join(self._commands)}")
            self._commands[name](rest.strip())
        except UserError as error:
            if not sys.stdin.isatty():  # nobody is there to try again
                raise
            say(f"phi3tune: {error}")

    def _system(self, text: str) -> None:
        self._held.settings = self._held.settings.model_copy(update={"system": text})
        say("system prompt set" if text else "no system prompt")

    def _regenerate(self, _: str) -> None:
        question = self._undone()
        settings = self._held.settings
        self._held.settings = settings.model_copy(update={"seed": (settings.seed + 1) % 2**31})
        self._answer(question)

    def _undo(self, _: str) -> None:
        say(f"taken back: {self._undone()[:80]}")

    def _undone(self) -> str:
        if not self._held.turns:
            raise UserError("nothing was asked yet; write a question first")
        question = self._held.turns[-2].text
        del self._held.turns[-2:]
        return question

    def _reset(self, _: str) -> None:
        self._held.turns = []
        say("a new chat")

    def _save(self, name: str) -> None:
        if not name:
            raise UserError("name a file, such as /save chat.json")
        conversations.write(Path(name).expanduser(), Conversation(chats=[self._held]))
        say(f"saved in {name}")

    def _answer(self, question: str) -> None:
        asked = Turn(role="user", text=question)
        messages = conversations.messages(self._held.model_copy(update={"turns": [*self._held.turns, asked]}))
        if "classify" in self._engine.info.can:
            self._show_labels(messages)
            return
        turn = Turn(role="assistant", text="", model=self._held.model, finish="cancelled")
        self._stream(messages, turn)
        if turn.text:
            self._held.turns += [asked, turn]

    def _stream(self, messages: list[Any], turn: Turn) -> None:
        """Write the answer as it comes, and into `turn`; Ctrl+C ends it and keeps what came."""
        from phi3tune.engines.base import chat_request, sampling_of

        request = chat_request(self._engine, messages, sampling_of(self._held.settings))
        try:
            for chunk in self._engine.stream(request, lambda: False):
                turn.text += chunk.text
                sys.stdout.write(chunk.text)
                sys.stdout.flush()
                if chunk.usage is not None:
                    turn.finish = chunk.finish_reason or ""
                    sys.stdout.write("\n")
                    sys.stdout.flush()
                    say(
                        f"[first token {chunk.usage.first_token_seconds:.2f} s, "
                        f"{chunk.usage.tokens_per_second or 0.0:,.0f} tok/s, "
                        f"{chunk.usage.completion_tokens} tokens, {chunk.finish_reason}]"
                    )
        except KeyboardInterrupt:
            say("\n[stopped]")

    def _show_labels(self, messages: list[Any]) -> None:
        engine: Any = self._engine
        for label, share in engine.classify([messages])[0]["scores"].items():
            sys.stdout.write(f"{label} {share:.1%}\n")
        sys.stdout.flush()
