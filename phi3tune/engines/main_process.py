"""The engines of a Space on ZeroGPU: in the app's own process, which is forked to where a GPU is for an answer.

Weights that are put "on the GPU" before the page is served are carried into every fork. Nothing comes back from one but
what the answer yields; what it has read of a chat helps the next turn only where ZeroGPU uses the fork again.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

from phi3tune import hosted
from phi3tune.engines import models
from phi3tune.engines.base import Cancelled, Chunk, EngineError, EngineInfo, Request, Usage, never
from phi3tune.engines.decoding import Clock
from phi3tune.engines.loaded import Loaded
from phi3tune.engines.models import NANO_NAME, ModelRef
from phi3tune.engines.pool import Pool, State
from phi3tune.engines.process import version
from phi3tune.engines.zero import on_gpu
from phi3tune.errors import UserError
from phi3tune.paths import Workspace

_LOADING = 20  # seconds of GPU, on top of the answer's, to start a fork and load what was not prepared
_TOKENS_PER_SECOND = 15  # what the slowest of the models decodes at least
_MOST = 120  # seconds of GPU that an answer may take

_Known = tuple[Path, int]  # a folder, and the version of its files
_prepared: dict[_Known, Loaded] = {}
_last: dict[_Known, Loaded] = {}  # in a fork that is used again: the one model that it loaded itself


def prepare(workspace: Workspace) -> None:
    """Load phi3-nano and the Hub models that visitors may use, downloading them if need be.

    To be called on the main thread before the page is served: only there does ZeroGPU accept weights for a GPU that is
    yet to come. Raises `UserError` when one cannot be had.
    """
    allowed = hosted.limits().models if hosted.is_hosted() else []
    for name in (NANO_NAME, *allowed):
        ref = models.resolve(name, workspace)
        _prepared[_known(ref)] = Loaded(ref)


def _known(ref: ModelRef) -> _Known:
    return ref.loaded, version(ref.loaded)


def _seconds(ref: ModelRef, request: Request | None) -> int:
    tokens = request.sampling.max_new_tokens if request is not None else 0
    return min(_MOST, _LOADING + tokens // _TOKENS_PER_SECOND)


@on_gpu(_seconds)
def _answer(ref: ModelRef, request: Request | None) -> Generator[EngineInfo | Chunk | UserError, None, None]:
    """Facts about the model, then the answer, if one is wanted. A user's mistake is handed over, for a fork keeps
    what is raised in it to itself."""
    try:
        model = _prepared.get(_known(ref)) or _last.get(_known(ref))
        if model is None:
            _last.clear()
            model = _last[_known(ref)] = Loaded(ref)
        yield model.info(ref)
        if request is not None:
            yield from (chunk for chunk in model.steps(ref, request, never, {ref.adapter}) if chunk is not None)
    except UserError as error:
        yield error


class MainProcess(Pool):
    """Chats with whole or tuned weights are answered on the borrowed GPU, everything else by the pool's processes on
    the CPU. Answers on the GPU do not wait for each other here: ZeroGPU keeps its own queue."""

    def __init__(self) -> None:
        super().__init__()
        self._infos: dict[tuple[ModelRef, int], EngineInfo] = {}
        self._answering: Counter[Path] = Counter()
        self._counting = threading.Lock()

    def stream(self, ref: ModelRef, request: Request, cancelled: Cancelled = never) -> Iterator[Chunk]:
        """As the pool's; `cancelled` is asked at every token, and not while waiting for a GPU."""
        if not _borrows(ref):
            yield from super().stream(ref, request, cancelled)
            return
        clock, tokens = Clock(), 0
        if cancelled():
            yield _ended(clock.usage(len(request.prompt_ids), 0, tokens))
            return
        for chunk in self._borrowed(ref, request):
            yield chunk
            if chunk.finish_reason is not None:
                return
            tokens += len(chunk.token_ids)
            clock.tick()
            if cancelled():
                yield _ended(clock.usage(len(request.prompt_ids), 0, tokens))
                return

    def info(self, ref: ModelRef) -> EngineInfo:
        """As the pool's; of a model that has not answered yet it borrows the GPU."""
        if not _borrows(ref):
            return super().info(ref)
        found = self._info(ref)
        if found is None:
            list(self._borrowed(ref, None))
            found = self._infos[ref, version(ref.loaded)]
        return found

    def state(self, ref: ModelRef) -> State:
        """As the pool's; ready is a model that was prepared or has answered."""
        if not _borrows(ref):
            return super().state(ref)
        if self._info(ref) is not None:
            return "ready"
        return "loading" if self._answering[ref.loaded] else "not loaded"

    @property
    def busy(self) -> int:
        """Answers under way or waiting, all models together."""
        return super().busy + self._answering.total()

    def unload(self, ref: ModelRef) -> bool:
        """As the pool's; nothing of a model on the GPU outlives its answers."""
        return not self._answering[ref.loaded] if _borrows(ref) else super().unload(ref)

    def _info(self, ref: ModelRef) -> EngineInfo | None:
        prepared = _prepared.get(_known(ref))
        if prepared is not None and ref.adapter is None:
            return prepared.info(ref)
        return self._infos.get((ref, version(ref.loaded)))

    def _borrowed(self, ref: ModelRef, request: Request | None) -> Iterator[Chunk]:
        """The chunks of an answer, whose facts are noted. Raises what went wrong; `EngineError`: ZeroGPU refuses."""
        with self._counted(ref):
            said = _answer(ref, request)
            try:
                for item in said:
                    if isinstance(item, UserError):
                        raise item
                    if isinstance(item, EngineInfo):
                        self._infos[ref, version(ref.loaded)] = item
                    else:
                        yield item
            except Exception as error:
                told = getattr(error, "message", None)
                if told is None:
                    raise
                # Gradio's error, which is not known here: no time left today, no GPU free, a fault in the fork.
                raise EngineError(f"{getattr(error, 'title', 'ZeroGPU')}: {told}") from None
            finally:
                said.close()

    @contextmanager
    def _counted(self, ref: ModelRef) -> Iterator[None]:
        with self._counting:
            self._answering[ref.loaded] += 1
        try:
            yield
        finally:
            with self._counting:
                self._answering[ref.loaded] -= 1


def _borrows(ref: ModelRef) -> bool:
    return ref.kind == "torch" and ref.task == "chat"


def _ended(usage: Usage) -> Chunk:
    return Chunk("", (), "cancelled", usage)
