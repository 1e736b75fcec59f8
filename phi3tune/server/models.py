"""The models of an endpoint: found when it starts, loaded before it is ready."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Literal

from phi3tune import __version__
from phi3tune.chat import Renderer
from phi3tune.config import ServeConfig
from phi3tune.engines.models import FAILING, ModelRef, resolve
from phi3tune.errors import UserError
from phi3tune.paths import MANIFEST, Workspace
from phi3tune.server.answering import Served
from phi3tune.server.errors import ApiError

if TYPE_CHECKING:
    from phi3tune.engines.base import EngineInfo
    from phi3tune.engines.pool import Pool

_log = logging.getLogger(__name__)
LoadState = Literal["loading", "ready", "failed"]


class Models:
    """By the names under which they are served. Raises `UserError` when one of them does not exist."""

    def __init__(self, config: ServeConfig, workspace: Workspace, pool: Pool) -> None:
        if not config.models:
            raise UserError("no model to serve was named; name at least one, such as a run, a build or phi3-nano")
        self.refs = {name: resolve(name, workspace) for name in config.models}
        for name, ref in self.refs.items():
            if ref.kind == "remote":
                raise UserError(f"{name} is an endpoint already; name a model on this machine")
        self.error: Exception | None = None
        self.ended = threading.Event()
        self._pool = pool
        self._served: dict[str, Served] = {}
        self._created = int(time.time())

    @property
    def state(self) -> LoadState:
        """`failed` as soon as one of them could not be loaded; `error` then tells why."""
        if self.error is not None:
            return "failed"
        return "ready" if len(self._served) == len(self.refs) else "loading"

    def load(self) -> None:
        """Load all of them, so that the first request need not wait; sets `ended` when that is over."""
        try:
            for name, ref in self.refs.items():
                info = self._pool.info(ref)
                renderer = Renderer.load(ref.tokenizer)
                self._served[name] = Served(name, ref, info, renderer, _fingerprint(ref, info))
        except Exception as error:
            self.error = error
            if not isinstance(error, UserError):
                _log.exception("a model could not be loaded")
        finally:
            self.ended.set()

    def named(self, name: object) -> str:
        """The model that a malformed request was for, as well as can be told: an empty text for none."""
        if name is None:
            return next(iter(self.refs))
        return name if isinstance(name, str) and name in self.refs else ""

    def find(self, name: str | None) -> Served:
        """The model of this name, or the first. Raises `ApiError`: there is none (404), it is not loaded yet (503)."""
        name = next(iter(self.refs)) if name is None else name
        if name not in self.refs:
            known = ", ".join(self.refs)
            raise ApiError(
                404, f"model {name[:100]!r} is not served here; models: {known}", code="model_not_found", param="model"
            )
        if name not in self._served:
            why = "could not be loaded; its owner sees why" if self.state == "failed" else "is being loaded"
            raise ApiError(503, f"{name} {why}", code="not_ready", headers={"Retry-After": "1"})
        return self._served[name]

    def described(self, name: str) -> dict[str, Any]:
        """A model as OpenAI lists it, and how long its chats may be where that is known."""
        served = self._served.get(name)
        about: dict[str, Any] = {"id": name, "object": "model", "created": self._created, "owned_by": "phi3tune"}
        if self.refs[name].failing:
            about["warning"] = FAILING
        return about if served is None else {**about, "max_model_len": served.info.context_length}


def _fingerprint(ref: ModelRef, info: EngineInfo) -> str:
    """Of all that decides, with the seed, what is answered: the files, the program and the number format."""
    known = [__version__, info.kind, info.precision, info.device]
    for folder in filter(None, (ref.folder, ref.adapter)):
        manifest = folder / MANIFEST
        if manifest.is_file():
            known.append(hashlib.sha256(manifest.read_bytes()).hexdigest())
        else:  # another's folder: its files by name, size and time, because hashing gigabytes takes long
            files = [(path.name, path.stat()) for path in sorted(folder.iterdir()) if path.is_file()]
            known += [f"{name} {status.st_size} {status.st_mtime_ns}" for name, status in files]
    return f"fp_{hashlib.sha256(chr(10).join(known).encode()).hexdigest()[:10]}"
