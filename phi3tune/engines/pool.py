"""The engines that a page shares: one child process per base model or build, used in turn."""

from __future__ import annotations

import atexit
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from phi3tune import system
from phi3tune.engines.base import Cancelled, Chunk, EngineError, EngineInfo, Request, Usage, never
from phi3tune.engines.models import ModelRef
from phi3tune.engines.process import ChildProcess, LoadingCancelledError, State
from phi3tune.engines.turns import Turns

if TYPE_CHECKING:
    from phi3tune.chat import Message
    from phi3tune.engines.classifier import Classification

_LOADED_PER_DISK_BYTE = 2.2  # bf16 weights that are run in fp32, and a little for the cache


class Pool:
    """Answers for any model from any thread. The first use of a model loads it.

    LoRA runs share the process of their base. On the CPU one engine decodes at a time, first come, first served.
    When a model is to be loaded and there is no memory left for it, or there are `max_children` already, those that
    were idle longest are closed.
    """

    def __init__(self, *, max_children: int = 4) -> None:
        self._max_children = max_children
        self._children: dict[Path, ChildProcess] = {}
        self._lock = threading.Lock()
        self._processor = Turns()
        self._closed = False
        atexit.register(self.close)

    def stream(self, ref: ModelRef, request: Request, cancelled: Cancelled = never) -> Iterator[Chunk]:
        """Chunks of one answer. `cancelled` is asked all the time, also while waiting and loading.

        A slow or absent reader holds nobody up: the answer is collected by a thread of its own. Raises `UserError`
        when the model cannot be loaded or the prompt is too long, `EngineError` when the process ended.
        """
        said: queue.SimpleQueue[Chunk | BaseException] = queue.SimpleQueue()
        gone = threading.Event()
        arguments = (ref, request, lambda: gone.is_set() or cancelled(), said.put)
        threading.Thread(target=self._answer, args=arguments, daemon=True, name=f"answer {ref.label}").start()
        try:
            while True:
                item = said.get()
                if isinstance(item, BaseException):
                    raise item
                yield item
                if item.finish_reason is not None:
                    return
        finally:
            gone.set()

    def classify(self, ref: ModelRef, inputs: Sequence[str | Sequence[Message]]) -> list[Classification]:
        """The labels of texts or chats by a classifier, which is loaded if it is not; waits while it is busy.

        Raises `UserError` when the model is no classifier or cannot be loaded.
        """
        child = self._child(ref)
        with child.turns.take():
            self._ready(child, ref, never)
            with self._processor.take() if child.device == "cpu" else nullcontext():
                return child.classify(ref, inputs)

    def info(self, ref: ModelRef) -> EngineInfo:
        """Facts about a model, which is loaded if it is not; waits while it is answering."""
        child = self._child(ref)
        with child.turns.take():
            self._ready(child, ref, never)
            return child.info(ref)

    def state(self, ref: ModelRef) -> State:
        """Whether the weights of a model are in memory."""
        with self._lock:
            child = self._children.get(ref.loaded)
        return child.state if child is not None else "not loaded"

    def close(self) -> None:
        """End all processes; requests that are being answered end with an `EngineError`."""
        atexit.unregister(self.close)
        with self._lock:
            self._closed = True
            children = list(self._children.values())
        for child in children:
            child.kill()
            with child.turns.take():
                child.close()

    def _answer(
        self, ref: ModelRef, request: Request, cancelled: Cancelled, say: Callable[[Chunk | BaseException], None]
    ) -> None:
        nothing = Chunk("", (), "cancelled", Usage(len(request.prompt_ids), 0, 0, 0.0, 0.0))
        try:
            child = self._child(ref)
            with child.turns.take(cancelled) as mine:
                if not mine:
                    return say(nothing)
                self._ready(child, ref, cancelled)
                with self._processor.take(cancelled) if child.device == "cpu" else nullcontext(True) as running:
                    if not running:
                        return say(nothing)
                    for chunk in child.stream(ref, request, cancelled):
                        last = chunk
                        if chunk.finish_reason is None:
                            say(chunk)
            say(last)  # after the turns are over, so that whoever reads it finds the engine free
        except LoadingCancelledError:
            say(nothing)
        except BaseException as error:
            say(error)

    def _child(self, ref: ModelRef) -> ChildProcess:
        with self._lock:
            child = self._children.setdefault(ref.loaded, ChildProcess(ref.loaded))
            child.used = time.monotonic()
            return child

    def _ready(self, child: ChildProcess, ref: ModelRef, cancelled: Cancelled) -> None:
        """Start the process if it does not run. The caller holds its turn."""
        if self._closed:
            raise EngineError(f"{ref.label} cannot answer: the program is ending")
        if child.current():
            return
        self._make_room(child, ref)
        child.start(ref, cancelled)

    def _make_room(self, wanted: ChildProcess, ref: ModelRef) -> None:
        need = _LOADED_PER_DISK_BYTE * sum(path.stat().st_size for path in ref.base.iterdir() if path.is_file())
        with self._lock:
            running = [child for child in self._children.values() if child is not wanted and child.pid is not None]
        running.sort(key=lambda child: child.used)
        count = len(running)
        for child in running:
            if count < self._max_children and need <= system.memory().available:
                return
            with child.turns.take_if_free() as idle:
                if idle:
                    child.close()
                    count -= 1
