"""Models of the Hugging Face Hub: the download into the client's cache, and the folder that they are loaded from.

Tokens come from the environment (`HF_TOKEN`), from `hf auth login`, or from the caller; none is ever written here.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phi3tune import system
from phi3tune.engines.hub_access import (
    Access,
    HubFile,
    HubModel,
    cache_folder,
    cached_folder,
    cached_models,
    client,
    examine,
    held,
    reported,
)
from phi3tune.errors import UserError
from phi3tune.events import Event, Phase, Progress, Reporter
from phi3tune.paths import file_hash

if TYPE_CHECKING:
    from huggingface_hub import HfApi

__all__ = [
    "Access",
    "HubFile",
    "HubModel",
    "Unwatched",
    "cached_folder",
    "cached_models",
    "examine",
    "fetch",
    "folder",
    "small_files",
]
TOLD_SECONDS = 0.5


class _StopRequestedError(Exception):
    """Whoever watches asked to stop."""


def folder(model: HubModel, *, download: bool) -> Path:
    """The folder of a model: from the local cache, else downloaded; raises `UserError` when it cannot be had."""
    found = cached_folder(model)
    if found is not None:
        return found
    try:
        if not download:
            raise UserError("it is not in the local cache")
        fetched = fetch(model.repo, model.revision, Unwatched())
    except UserError as error:
        raise UserError(f"{str(model)!r} is no run and no folder, and on the Hub: {error}") from None
    assert fetched is not None
    return fetched


class Unwatched:
    """Nobody is told, and nobody stops it."""

    def emit(self, event: Event) -> None:
        pass

    def stop_requested(self) -> bool:
        return False


def small_files(model: HubModel, token: str | None = None) -> tuple[Path, Access]:
    """The folder of a model's files without its weights, and what the Hub says of it; raises `UserError` as `fetch`."""
    access = examine(model.repo, model.revision, token)
    folder = fetch(model.repo, model.revision, Unwatched(), token, small_only=True)
    assert folder is not None  # nobody stops it
    return folder, access


def fetch(
    hub_id: str, revision: str | None, reporter: Reporter, token: str | None = None, *, small_only: bool = False
) -> Path | None:
    """Fetch what the cache lacks of a model; its folder, or None when `reporter` asked to stop on the way.

    What was fetched of a large file stays, and the next call goes on from there. A file enters the cache only when its
    hash is the Hub's. `small_only` leaves the weights out. Raises `UserError` for the first of `examine`'s problems
    and for a download that fails.
    """
    access = examine(hub_id, revision, token)
    if access.problems:
        raise UserError(access.problems[0])
    model = HubModel(access.hub_id, access.revision)
    if access.cached and (whole := cached_folder(HubModel(access.hub_id, access.commit))) is not None:
        return whole
    wanted = [file for file in access.files if not (small_only and file.path.endswith(".safetensors"))]
    missing = [file for file in wanted if held(access.hub_id, access.commit, file) is None]
    bar = _Bar(reporter, sum(file.size for file in missing))
    reporter.emit(Phase(name="downloading the model"))
    api = client(token)
    try:
        for file in missing:
            with reported(model):
                _fetch(api, access, file, bar)
        with reported(model):  # the revision's name now stands for this commit, also when the Hub cannot be reached
            folder = Path(api.hf_hub_download(model.repo, "config.json", revision=model.revision)).parent
    except _StopRequestedError:
        return None
    return folder.parent / access.commit


def _fetch(api: HfApi, access: Access, file: HubFile, bar: _Bar) -> None:
    if file.sha256 is not None:
        _fetch_large(api, access, file, bar)
    # For a large file this finds the bytes and only gives them their name.
    copy = Path(api.hf_hub_download(access.hub_id, file.path, revision=access.commit))
    if file.sha256 is None:
        from huggingface_hub.utils.sha import git_hash

        if git_hash(copy.read_bytes()) != file.git:
            copy.resolve().unlink()
            raise _damaged(access, file)
        bar.add(file.size)


def _fetch_large(api: HfApi, access: Access, file: HubFile, bar: _Bar) -> None:
    """Put a file's bytes where the client keeps them. The client itself starts a broken download from nothing."""
    from huggingface_hub.file_download import hf_hub_url, http_get, repo_folder_name
    from huggingface_hub.utils._headers import build_hf_headers

    blobs = cache_folder() / repo_folder_name(repo_id=access.hub_id, repo_type="model") / "blobs"
    blobs.mkdir(parents=True, exist_ok=True)
    whole, part = blobs / str(file.sha256), blobs / f"{file.sha256}.part"
    lock = system.FolderLock(part.with_suffix(".lock"))
    if not lock.acquire():
        raise UserError(f"{access.hub_id} is being downloaded by another process already; wait for that")
    try:
        if whole.exists():
            bar.add(file.size)
            return
        begun = part.stat().st_size if part.exists() else 0
        bar.add(min(begun, file.size))
        with part.open("r+b" if begun else "wb") as stream:
            stream.seek(0, os.SEEK_END)
            url = hf_hub_url(access.hub_id, file.path, revision=access.commit, endpoint=api.endpoint)
            headers = build_hf_headers(token=api.token)
            http_get(
                url, stream, resume_size=begun, headers=headers, expected_size=file.size, tqdm_class=bar.of_client()
            )
        if file_hash(part) != file.sha256:
            part.unlink()
            raise _damaged(access, file)
        part.replace(whole)
    finally:
        lock.release()


class _Bar:
    """Bytes so far, told to a reporter twice a second; stops when that asks to."""

    def __init__(self, reporter: Reporter, total: int) -> None:
        self._reporter, self._total, self._done = reporter, total, 0
        self._resumed = 0
        self._started = self._told = time.monotonic()

    def add(self, size: int) -> None:
        """Bytes that are there without having been fetched now."""
        self._resumed += size
        self._advance(size)

    def _advance(self, size: int) -> None:
        if self._reporter.stop_requested():
            raise _StopRequestedError
        self._done += size
        now = time.monotonic()
        if self._done < self._total and now - self._told < TOLD_SECONDS:
            return
        self._told = now
        fetched = self._done - self._resumed
        eta = (now - self._started) * (self._total - self._done) / fetched if fetched else None
        self._reporter.emit(Progress(done=self._done, total=self._total, unit="bytes", eta_seconds=eta))

    def of_client(self) -> Any:
        """A class for the client's `tqdm_class`, which shows nothing of its own."""
        from tqdm import tqdm  # type: ignore[import-untyped]

        outer = self

        class Silent(tqdm):  # type: ignore[misc]
            def __init__(self, *args: Any, **options: Any) -> None:
                super().__init__(*args, **{**options, "disable": True})

            def update(self, n: float | None = 1) -> None:
                outer._advance(int(n or 0))

        return Silent


def _damaged(access: Access, file: HubFile) -> UserError:
    return UserError(f"{file.path} of {access.hub_id} arrived damaged and was removed; try again")
