"""The engines that a program shares: one child process per base model or build, used in turn."""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from phi3tune import system
from phi3tune.engines.base import Cancelled, Chunk, EngineError, EngineInfo, Request, Usage, never
from phi3tune.engines.loaded import SLOTS
from phi3tune.engines.models import ModelRef
from phi3tune.engines.process import Asked, ChildProcess, LoadingCancelledError, version
from phi3tune.engines.turns import Processor, Turns
from phi3tune.engines.zero import is_zero_gpu
from phi3tune.errors import UserError

if TYPE_CHECKING:
    from phi3tune.chat import Message
    from phi3tune.engines.classifier import Classification

__all__ = ["SLOTS", "Pool", "State", "shared"]

State = Literal["not loaded", "loading", "ready"]
# Resident bytes for each byte on disk, until a load was measured: bf16 weights that are run in fp32; an int4 build,
# whose matrices the runtime lays out anew; and for either what the interpreter and its libraries take.
_PER_DISK_BYTE = {"torch": 2.2, "onnxruntime-genai": 1.5, "onnxruntime": 1.5}
_LIBRARIES = {"torch": 600e6, "onnxruntime-genai": 150e6, "onnxruntime": 150e6}
_LOOK = 0.05  # seconds between two looks at a process that is busy


class _Place:
    """What the pool knows of one base model or build, loaded or not. Whoever starts or asks it holds `turns`."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.turns = Turns()
        self.used = time.monotonic()
        self.process: ChildProcess | None = None
        self.loading = False
        self.need = 0  # bytes that it takes when loaded
        self.measured = 0  # the version of the files that `need` was measured on; 0: estimated

    def running(self) -> ChildProcess | None:
        process = self.process
        return process if process is not None and process.alive() else None


class Pool:
    """Answers for any model from any thread. The first use of a model loads it.

    Runs share the process of their base. A process works on up to `SLOTS` answers at a time, each going on by one
    token in turn; on the CPU one process decodes at a time, for a slice of time. When a model is to be loaded and
    there is no memory left for it, or there are `max_children` already, those that were idle longest are closed.
    """

    def __init__(self, *, max_children: int = 4) -> None:
        self._max_children = max_children
        self._places: dict[Path, _Place] = {}
        self._lock = threading.Lock()
        self._processor = Processor()
        self._closed = False
        atexit.register(self.close)

    def stream(self, ref: ModelRef, request: Request, cancelled: Cancelled = never) -> Iterator[Chunk]:
        """Chunks of one answer, each of one token or of those that came within a moment.

        `cancelled` is asked all the time, also while waiting and loading. A slow or absent reader holds nobody up.
        Raises `UserError` when the model cannot be loaded or the prompt is too long, `EngineError` when the process
        ended.
        """
        asked = self._ask(ref, "stream", request, cancelled=cancelled)
        if asked is None:
            yield Chunk("", (), "cancelled", Usage(len(request.prompt_ids), 0, 0, 0.0, 0.0))
            return
        try:
            while True:
                chunk: Chunk = asked.next()
                yield chunk
                if chunk.finish_reason is not None:
                    return
        finally:
            asked.leave()

    def classify(self, ref: ModelRef, inputs: Sequence[str | Sequence[Message]]) -> list[Classification]:
        """The labels of texts or chats by a classifier, which is loaded if it is not.

        Raises `UserError` when the model is no classifier or cannot be loaded.
        """
        asked = self._ask(ref, "classify", inputs)
        assert asked is not None
        found: list[Classification] = asked.next()
        return found

    def info(self, ref: ModelRef) -> EngineInfo:
        """Facts about a model, which is loaded if it is not."""
        asked = self._ask(ref, "info")
        assert asked is not None
        info: EngineInfo = asked.next()
        return info

    def state(self, ref: ModelRef) -> State:
        """Whether the weights of a model are in memory."""
        place = self._places.get(ref.loaded)
        if place is None:
            return "not loaded"
        if place.loading:
            return "loading"
        return "ready" if place.running() is not None else "not loaded"

    def progress(self, ref: ModelRef) -> float | None:
        """Share of a model that is in memory, told by what its process has taken; None unless it is being loaded."""
        place = self._places.get(ref.loaded)
        process = place.process if place is not None else None
        if place is None or not place.loading:
            return None
        return min(0.99, process.memory / place.need) if process is not None and place.need else 0.0

    @property
    def busy(self) -> int:
        """Answers under way or waiting, all models together."""
        return sum(process.asked for place in self._all() if (process := place.running()) is not None)

    @property
    def memory(self) -> dict[str, int]:
        """Resident bytes of every loaded model, by its name."""
        return {place.label: process.memory for place in self._all() if (process := place.running()) is not None}

    def unload(self, ref: ModelRef) -> bool:
        """Free the memory of a model, and of the adapters on it; False while it is loading or answers somebody."""
        place = self._places.get(ref.loaded)
        return place is None or self._close_if_idle(place)

    def close(self) -> None:
        """End all processes; requests that are being answered end with an `EngineError`."""
        atexit.unregister(self.close)
        self._closed = True
        places = self._all()
        for place in places:
            if place.process is not None:
                place.process.kill()
        for place in places:
            with place.turns.take():
                self._close(place)

    def _all(self) -> list[_Place]:
        with self._lock:
            return list(self._places.values())

    def _ask(self, ref: ModelRef, verb: str, *rest: Any, cancelled: Cancelled = never) -> Asked | None:
        """Ask a model something, when it is loaded; None when cancelled before."""
        with self._lock:
            place = self._places.setdefault(ref.loaded, _Place(ref.base.name))
        with place.turns.take(cancelled) as mine:
            if not mine:
                return None
            try:
                process = self._ready(place, ref, cancelled)
            except LoadingCancelledError:
                return None
            place.used = time.monotonic()
            asked = process.ask(verb, ref, *rest, cancelled=cancelled)
        if process.device == "cpu" and verb != "info":
            self._processor.want(process)
        return asked

    def _ready(self, place: _Place, ref: ModelRef, cancelled: Cancelled) -> ChildProcess:
        """The process of a model, started if it does not run or the files on disk are others by now."""
        running = place.running()
        current = version(ref.loaded)
        while running is not None and running.version != current and running.busy and running.alive():
            if cancelled():
                raise LoadingCancelledError
            time.sleep(_LOOK)
        if self._closed:
            raise EngineError(f"{ref.label} cannot answer: the program is ending")
        if running is not None and running.alive() and running.version == current:
            return running
        place.loading = True
        try:
            self._close(place)
            return self._start(place, ref, cancelled)
        except BaseException:
            self._close(place)
            raise
        finally:
            place.loading = False

    def _start(self, place: _Place, ref: ModelRef, cancelled: Cancelled) -> ChildProcess:
        current = version(ref.loaded)
        if place.measured != current or not current:
            place.need = _estimate(ref)
        self._make_room(place, ref)
        place.process = process = ChildProcess(ref, self._processor.paused)
        process.open(ref, cancelled)
        place.need, place.measured = process.memory, current
        return process

    def _close(self, place: _Place) -> None:
        if place.process is not None:
            place.process.close()
            place.process = None

    def _make_room(self, wanted: _Place, ref: ModelRef) -> None:
        """Close what was idle longest until there is room. `UserError` when the machine is too small for it alone."""
        total = system.memory().total
        if 0 < total < wanted.need:
            raise UserError(
                f"{ref.label} needs about {wanted.need / 1e9:.1f} GB of memory and there are {total / 1e9:.1f}; "
                "choose a smaller model, or an int4 build of it"
            )
        others = [place for place in self._all() if place is not wanted and place.running() is not None]
        others.sort(key=lambda place: place.used)
        count = len(others)
        for place in others:
            if count < self._max_children and wanted.need <= system.memory().available:
                return
            count -= self._close_if_idle(place)

    def _close_if_idle(self, place: _Place) -> bool:
        with place.turns.take_if_free() as idle:
            if not idle or (place.process is not None and place.process.busy):
                return False
            self._close(place)
            return True


def _estimate(ref: ModelRef) -> int:
    """Bytes that a model will take, told by its files."""
    size = sum(path.stat().st_size for path in ref.base.iterdir() if path.is_file())
    return int(_LIBRARIES[ref.kind] + _PER_DISK_BYTE[ref.kind] * size)


_shared: Pool | None = None
_shared_lock = threading.Lock()


def shared() -> Pool:
    """The pool of this process, for everybody in it who answers: the page, its endpoint, the guards."""
    global _shared
    with _shared_lock:
        if _shared is None and is_zero_gpu():
            from phi3tune.engines.main_process import MainProcess

            _shared = MainProcess()
        elif _shared is None:
            _shared = Pool()
        return _shared
