"""One model in memory with the adapters that were asked for: what answers inside a child process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phi3tune.engines import open_engine
from phi3tune.engines.base import Chunk, Engine, EngineInfo, Request
from phi3tune.engines.models import ModelRef, verify_folder
from phi3tune.errors import UserError

if TYPE_CHECKING:
    from phi3tune.chat import Message
    from phi3tune.engines.classifier import Classification

SLOTS = 8  # answers under way at a time; more wait
_ADAPTERS = SLOTS  # kept beside the base; the one attached first, and not in use, goes first


class Loaded:
    """A build or a base, with the adapters that were asked for. Raises `UserError` when it cannot be loaded."""

    def __init__(self, ref: ModelRef) -> None:
        base = ref
        if ref.adapter is not None and ref.task == "chat":
            base = replace(ref, ref=str(ref.base), label=ref.base.name, adapter=None, run=None)
        self._engine: Any = open_engine(base)
        self.base: EngineInfo = self._engine.info

    def info(self, ref: ModelRef) -> EngineInfo:
        """Facts about the base, or about one of the adapters on it, which is attached if it is not."""
        return self._view(ref, set()).info

    def classify(self, ref: ModelRef, inputs: Sequence[str | Sequence[Message]]) -> list[Classification]:
        """The labels of texts or chats. Raises `UserError` when the model is no classifier."""
        if ref.task != "classification":
            raise UserError(f"{ref.label} answers chats and chooses no labels; name a classification run")
        found: list[Classification] = self._engine.classify(inputs)
        return found

    def room(self, ref: ModelRef, request: Request) -> bool:
        """Whether there is memory for one more answer beside those under way."""
        kept = getattr(self._engine, "kept", None)
        wanted = len(request.prompt_ids) + request.sampling.max_new_tokens
        return kept is None or kept.room(min(wanted, self.base.context_length))

    def steps(
        self, ref: ModelRef, request: Request, cancelled: Callable[[], bool], in_use: set[Path | None]
    ) -> Iterator[Chunk | None]:
        """One answer, with None wherever another may have its turn. Adapters that are `in_use` stay attached."""
        engine: Any = self._view(ref, in_use)
        found: Iterator[Chunk | None] = getattr(engine, "steps", engine.stream)(request, cancelled)
        return found

    def _view(self, ref: ModelRef, in_use: set[Path | None]) -> Engine:
        engine = self._engine
        if ref.task != "classification" and "adapters" in self.base.can:
            engine = self._with_adapter(ref, in_use)
        found: Engine = engine
        return found

    def _with_adapter(self, ref: ModelRef, in_use: set[Path | None]) -> Any:
        engine = self._engine
        if ref.adapter is None:
            return engine.with_adapter(None, label=ref.label)
        name = f"{ref.adapter} {_written(ref.adapter)}"
        if name not in engine.adapters:
            verify_folder(ref.adapter, ref.label, ours=ref.run is not None)
            if len(engine.adapters) >= _ADAPTERS:
                used = {str(path) for path in in_use}
                spare = [other for other in engine.adapters if other.rpartition(" ")[0] not in used]
                engine.detach(spare[0])
            engine.attach(name, ref.adapter)
        return engine.with_adapter(name, label=ref.label)


def _written(adapter: Path) -> int:
    """When an adapter was written, so that one written anew is loaded anew."""
    return max((path.stat().st_mtime_ns for path in adapter.glob("*adapter*.*")), default=0)
