"""What stands behind a pane: the shared engines, endpoints, and the guards that look at what goes in and out."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextvars import copy_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phi3tune.chat import Renderer
from phi3tune.config import SamplingConfig, differing
from phi3tune.engines import models
from phi3tune.engines.base import Chunk, Request, sampling_of
from phi3tune.errors import UserError
from phi3tune.paths import Workspace
from phi3tune.ui import forms, render_chat
from phi3tune.ui.dialogue import WAIT
from phi3tune.ui.pane import Pane, Stream, Turn
from phi3tune.ui.words import N, t

if TYPE_CHECKING:
    from phi3tune.chat import Message
    from phi3tune.engines.pool import Pool
    from phi3tune.guardrails import Guards

LOOK_SECONDS = 0.3
NO_GUARDS = N("none")


def pool() -> Pool:
    """The engines of this process, shared with the endpoint and all pages."""
    from phi3tune.engines.pool import shared

    return shared()


def guard_files(workspace: Workspace) -> list[str]:
    """Guards to choose from: the YAML files of the workspace's folder `guards`."""
    files = [path for pattern in ("*.yaml", "*.yml") for path in (workspace.root / "guards").glob(pattern)]
    return sorted(path.name for path in files if path.is_file())


def guards_of(chosen: object, workspace: Workspace) -> Guards | None:
    """The guards that were chosen, by the name of their file. The page opens no other path that a client names."""
    if chosen in (None, "", NO_GUARDS):
        return None
    if chosen not in guard_files(workspace):
        raise UserError(t("Choose guards from the list: they are the YAML files in the workspace's folder guards."))
    from phi3tune import guardrails

    return guardrails.load(workspace.root / "guards" / Path(str(chosen)).name, workspace)


def stream_of(of: Pane, guards_name: object, key: str, workspace: Workspace) -> Stream:
    """How the open answer of a pane comes in: through the guards from its model, whatever that is."""
    workspace = workspace.here()  # the answer may be read in another thread

    def stream(cancelled: Callable[[], bool]) -> Iterator[Chunk | None]:
        turn = of.turns[-1]
        config = turn.asked or SamplingConfig()
        ref = models.resolve(turn.model, workspace)
        given = of.messages(config.system)
        guards = guards_of(guards_name, workspace)
        if guards is not None:
            verdict = guards.check_input(given)
            turn.hits = verdict.hits
            if verdict.blocked:
                raise UserError(verdict.reason)
            given = list(verdict.messages)
        said = patient(_chunks(ref, given, config, key, str(workspace.root), cancelled))
        for chunk in _guarded(said, guards, turn) if guards is not None else said:
            if chunk is None and not turn.text:
                of.wait(*waiting_for(ref))
            yield chunk

    return stream


def _chunks(
    ref: models.ModelRef,
    given: list[Message],
    config: SamplingConfig,
    key: str,
    owner: str,
    cancelled: Callable[[], bool],
) -> Iterator[Chunk]:
    if ref.kind == "remote":
        from phi3tune.engines.address import parse
        from phi3tune.engines.remote import RemoteEngine

        # Only the key that was typed: one of this machine's environment is not for any address that somebody types.
        engine = RemoteEngine(parse(ref.ref), name=ref.label, key=key)
        try:
            yield from engine.stream(Request((), sampling_of(config), given), cancelled)
        finally:
            engine.close()
        return
    if ref.task == "classification":  # it renders by itself, and answers with its likeliest label
        yield from pool().stream(ref, Request((), sampling_of(config), given), cancelled)
        return
    prompt = Renderer.load(ref.tokenizer).prompt(given)
    yield from pool().stream(ref, Request(prompt, sampling_of(config), owner=owner), cancelled)


def patient(chunks: Iterator[Chunk]) -> Iterator[Chunk | None]:
    """The same chunks, with None for every moment in which none came, so that a waiting page can be told why."""
    said: queue.SimpleQueue[Chunk | BaseException | None] = queue.SimpleQueue()

    def read() -> None:
        try:
            for chunk in chunks:
                said.put(chunk)
            said.put(None)
        except BaseException as error:
            said.put(error)

    # In the context of the request: ZeroGPU counts what a visitor borrows by it.
    threading.Thread(target=copy_context().run, args=(read,), daemon=True, name="playground answer").start()
    while True:
        try:
            item = said.get(timeout=LOOK_SECONDS)
        except queue.Empty:
            yield None
            continue
        if item is None:
            return
        if isinstance(item, BaseException):
            raise item
        yield item


def _guarded(chunks: Iterator[Chunk | None], guards: Guards, turn: Turn) -> Iterator[Chunk | None]:
    """The answer as the guards let it through. Its tokens are left out: they would tell what was masked."""
    from phi3tune.guardrails import OutputFilter

    output = OutputFilter(guards)
    for chunk in chunks:
        if chunk is None:
            yield None
            continue
        pieces = [output.feed(chunk.text)]
        if chunk.finish_reason is not None and not pieces[0].blocked:
            pieces.append(output.finish())
        turn.hits += tuple(hit for piece in pieces for hit in piece.hits if hit not in turn.hits)
        text = "".join(piece.text for piece in pieces)
        if any(piece.blocked for piece in pieces):
            yield Chunk(text, ())
            raise UserError(guards.reason(turn.hits))
        yield Chunk(text, (), chunk.finish_reason, chunk.usage)


def waiting_for(ref: models.ModelRef) -> tuple[str, float | None]:
    """What happens before the first word, and which share of the model is in memory while it is being loaded."""
    if ref.kind == "remote":
        return N("waiting for the endpoint"), None
    if pool().state(ref) == "ready":
        return N("reading the chat, or waiting for its turn"), None
    return N("loading the model"), pool().progress(ref)


def add_engine(of: Pane, workspace: Workspace) -> None:
    """Note what gave the last answer, for the line under the pane; only of a model that is in memory."""
    turn = of.turns[-1] if of.turns else None
    if turn is None or turn.error or turn.engine is not None or turn.role == "user":
        return
    ref = models.resolve(turn.model, workspace)
    if ref.kind != "remote" and pool().state(ref) == "ready":
        turn.engine = pool().info(ref)


def prompt_of(of: Pane, place: int, workspace: Workspace) -> str:
    """What the model was given for the answer at `place`, token by token, as HTML."""
    if not of.answers(place):
        raise UserError(t(WAIT))
    turn = of.turns[place]
    config = turn.asked or SamplingConfig()
    given = of.messages(config.system, place)
    ref = models.resolve(turn.model, workspace, download=False)
    if ref.kind == "remote" or ref.task == "classification":
        return render_chat.messages(ref.label, given, _settings(config))
    renderer = Renderer.load(ref.tokenizer)
    prompt, said = renderer.prompt(given), turn.token_ids or renderer.encode(turn.text)
    return render_chat.prompt(ref.label, _pieces(renderer, [*prompt, *said]), len(said), _settings(config))


def _pieces(renderer: Renderer, ids: Sequence[int]) -> list[tuple[str, int, bool]]:
    special = [token_id in renderer.special_ids for token_id in ids]
    return list(zip(renderer.pieces(ids), ids, special, strict=True))


def _settings(config: SamplingConfig) -> str:
    other: dict[str, Any] = {name: value for name, value in differing(config).items() if name != "system"}
    named = ", ".join(f"{forms.label(name)} {value}" for name, value in other.items())
    return t("Settings: {settings}.", settings=named) if named else t("Settings: the defaults.")
