"""`python -m phi3tune.engines.child ADDRESS`: one loaded model, answering its pool one request at a time.

What goes over the connection, as tuples:
    pool to child    ("open", 0, ref), then ("stream", id, ref, request), ("classify", id, ref, inputs),
                     ("info", id, ref), ("cancel", id)
    child to pool    ("ready", 0, info of the base), then ("chunk", id, chunk), ("labels", id, classifications),
                     ("info", id, info) or ("error", id, whether it is the user's mistake, text)
The child ends when the other side is gone.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phi3tune.engines import open_engine
from phi3tune.engines.base import Engine, EngineInfo, Request
from phi3tune.engines.models import ModelRef, verify_folder
from phi3tune.errors import UserError

if TYPE_CHECKING:
    from phi3tune.chat import Message
    from phi3tune.engines.classifier import Classification
    from phi3tune.engines.torch_engine import TorchEngine

KEY = "PHI3TUNE_ENGINE_KEY"
_ADAPTERS = 8  # kept beside the base; the one attached first goes first


def main(argv: Sequence[str] | None = None) -> int:
    address = (sys.argv[1:] if argv is None else argv)[0]
    key = bytes.fromhex(os.environ.pop(KEY))
    target: Any = ("127.0.0.1", int(address)) if address.isdigit() else address
    with Client(target, authkey=key) as connection:
        try:
            _serve(connection)
        except (EOFError, ConnectionError):  # the pool is gone
            return 0
    return 0


def _serve(connection: Connection) -> None:
    _, _, ref = connection.recv()
    try:
        model = _Model(ref)
    except Exception as error:
        connection.send(_error(0, error))
        return
    connection.send(("ready", 0, model.base))
    while True:
        verb, number, *rest = connection.recv()
        if verb == "cancel":  # of a request that had ended already
            continue
        try:
            if verb == "info":
                connection.send(("info", number, model.info(*rest)))
            elif verb == "classify":
                connection.send(("labels", number, model.classify(*rest)))
            else:
                model.stream(connection, number, *rest)
        except (EOFError, ConnectionError):
            raise
        except Exception as error:
            connection.send(_error(number, error))


class _Model:
    """A build; or a base with the adapters that were asked for."""

    def __init__(self, ref: ModelRef) -> None:
        base = ref
        if ref.adapter is not None and ref.task == "chat":
            base = replace(ref, ref=str(ref.base), label=ref.base.name, adapter=None, run=None)
        self._engine: Any = open_engine(base)
        self.base: EngineInfo = self._engine.info

    def info(self, ref: ModelRef) -> EngineInfo:
        return self._view(ref).info

    def classify(self, ref: ModelRef, inputs: Sequence[str | Sequence[Message]]) -> list[Classification]:
        if ref.task != "classification":
            raise UserError(f"{ref.label} answers chats and chooses no labels; name a classification run")
        found: list[Classification] = self._engine.classify(inputs)
        return found

    def stream(self, connection: Connection, number: int, ref: ModelRef, request: Request) -> None:
        for chunk in self._view(ref).stream(request, _cancelled(connection, number)):
            connection.send(("chunk", number, chunk))

    def _view(self, ref: ModelRef) -> Engine:
        if ref.kind != "torch" or ref.task == "classification":
            engine: Engine = self._engine
            return engine
        return self._with_adapter(self._engine, ref)

    def _with_adapter(self, engine: TorchEngine, ref: ModelRef) -> TorchEngine:
        if ref.adapter is None:
            return engine.with_adapter(None, label=ref.label)
        name = f"{ref.adapter} {(ref.adapter / 'adapter_model.safetensors').stat().st_mtime_ns}"
        if name not in engine.adapters:
            verify_folder(ref.adapter, ref.label, ours=ref.run is not None)
            if len(engine.adapters) == _ADAPTERS:
                engine.detach(engine.adapters[0])
            engine.attach(name, Path(ref.adapter))
        return engine.with_adapter(name, label=ref.label)


def _cancelled(connection: Connection, number: int) -> Callable[[], bool]:
    """True once the pool has cancelled request `number`; nothing else is sent to a child that is answering."""

    def asked() -> bool:
        while connection.poll():
            if connection.recv()[:2] == ("cancel", number):
                return True
        return False

    return asked


def _error(number: int, error: Exception) -> tuple[Any, ...]:
    if isinstance(error, UserError):
        return ("error", number, True, str(error))
    return ("error", number, False, traceback.format_exc())


if __name__ == "__main__":
    sys.exit(main())
