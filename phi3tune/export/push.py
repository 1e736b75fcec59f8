"""A model to the Hugging Face Hub, in one commit: whole or not at all."""

from __future__ import annotations

import io
import json
import logging
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phi3tune import hosted
from phi3tune.engines.folders import fails_parity
from phi3tune.engines.hub_models import HubModel
from phi3tune.engines.models import ModelRef, verify_folder
from phi3tune.errors import UserError
from phi3tune.events import Phase, Progress, Reporter
from phi3tune.export.public import public_files
from phi3tune.paths import MANIFEST, MANIFEST_SCHEMA, Workspace

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_TOLD_SECONDS = 0.5


class _StopRequestedError(Exception):
    """Whoever watches asked to stop."""


def push(
    ref: ModelRef,
    repo: str,
    workspace: Workspace,
    reporter: Reporter,
    *,
    private: bool = False,
    force: bool = False,
    token: str | None = None,
) -> dict[str, Any] | None:
    """Publish a run's adapter, merged weights or a build as the Hub's model `repo` (owner/name), made where it is not.

    What an earlier push left there and this one does not have is deleted in the same commit; other files stay. Returns
    `url`, `commit`, `files`, `deleted` and `bytes`; None when the user stopped it: nothing was published then. The
    token is `token`, else that of the environment (`HF_TOKEN`) or of `hf auth login`. Progress is in bytes. Raises
    `UserError` for a model of somebody else, an altered file, a build that fails parity unless `force`d, and for what
    the Hub refuses.
    """
    hosted.refuse_visitor(workspace, "publishing on the Hub")
    target = HubModel.parse(repo)
    if target is None or target.revision is not None:
        raise UserError(f"{repo[:200]!r} is no name of a model on the Hub; give owner/name")
    folder = ref.adapter or ref.base
    if ref.run is None and not folder.is_relative_to(workspace.exports):
        raise UserError(f"{ref.label} was not made here; name a run, merged weights or a build (phi3tune builds)")
    if fails_parity(folder) and not force:
        raise UserError(
            f"{ref.label}: it does not answer like its model; use a higher precision, or push it with --force"
        )
    reporter.emit(Phase(name="checking the files"))
    verify_folder(folder, ref.label, ours=True)
    files = public_files(folder, workspace, repo=target.repo)
    from phi3tune.engines.hub_access import client

    api = client(token)
    try:
        with _told(target.repo), _no_bars():
            return _commit(api, target.repo, files, reporter, private=private)
    except _StopRequestedError:
        return None


def _commit(
    api: HfApi, repo: str, files: dict[str, Path | bytes], reporter: Reporter, *, private: bool
) -> dict[str, Any]:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    api.create_repo(repo, private=private or None, exist_ok=True)
    if private and not api.model_info(repo).private:
        raise UserError(f"{repo} is there already and is public; make it private on its page, or choose another name")
    reporter.emit(Phase(name=f"sending to {repo}"))
    total = sum(path.stat().st_size for path in files.values() if isinstance(path, Path))
    bar = _Bar(reporter, total)
    operations: list[Any] = []
    with ExitStack() as open_files:
        for name, content in files.items():
            # Streams of ours: bytes are counted, and a stop is heeded between two of them. The client sends streams by
            # plain HTTP, but bytes and files by path in chunks of its own (Xet), which cannot be stopped.
            if isinstance(content, bytes):
                operations.append(CommitOperationAdd(name, io.BytesIO(content)))
                continue
            stream = open_files.enter_context(_Counted(content))
            operation = CommitOperationAdd(name, stream)
            stream.sending = bar
            api.preupload_lfs_files(repo, [operation])
            operations.append(operation)
        bar.stop_if_asked()
        deleted = sorted(_pushed_before(api, repo) - files.keys())
        operations += [CommitOperationDelete(name, is_folder=False) for name in deleted]
        found = api.create_commit(repo, operations, commit_message=f"{repo.partition('/')[2]}, made with phi3tune")
    size = total + sum(len(content) for content in files.values() if isinstance(content, bytes))
    url = f"{api.endpoint}/{repo}"
    return {"repo": repo, "url": url, "commit": found.oid, "files": sorted(files), "deleted": deleted, "bytes": size}


def _pushed_before(api: HfApi, repo: str) -> set[str]:
    """Files of the repository that an earlier push of ours brought there: those that its manifest lists."""
    there = set(api.list_repo_files(repo))
    if MANIFEST not in there:
        return set()
    with tempfile.TemporaryDirectory(prefix="phi3tune-push-") as folder:
        text = Path(api.hf_hub_download(repo, MANIFEST, local_dir=folder)).read_text(encoding="utf-8")
    try:
        manifest = json.loads(text)
    except ValueError:
        return set()
    ours = isinstance(manifest, dict) and manifest.get("schema") == MANIFEST_SCHEMA
    files = manifest.get("files") if ours else None
    return there & files.keys() if isinstance(files, dict) else set()


class _Bar:
    """Bytes so far, told to a reporter twice a second."""

    def __init__(self, reporter: Reporter, total: int) -> None:
        self._reporter, self._total, self._done = reporter, total, 0
        self._told = self._started = time.monotonic()

    def stop_if_asked(self) -> None:
        if self._reporter.stop_requested():
            raise _StopRequestedError

    def add(self, size: int) -> None:
        self.stop_if_asked()
        self._done = min(self._done + size, self._total)  # a part that is sent again is no more than it was
        now = time.monotonic()
        if self._done < self._total and now - self._told < _TOLD_SECONDS:
            return
        self._told = now
        eta = (now - self._started) * (self._total - self._done) / max(1, self._done)
        self._reporter.emit(Progress(done=self._done, total=self._total, unit="bytes", eta_seconds=eta))


class _Counted(io.BufferedReader):
    """A file whose bytes are counted while it is sent, not while it is hashed."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self.sending: _Bar | None = None

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(-1 if size is None else size)
        if self.sending is not None:
            self.sending.add(len(data))
        return data


@contextmanager
def _no_bars() -> Iterator[None]:
    """The client's remark that a stream goes by plain HTTP says nothing to a user."""
    log = logging.getLogger("huggingface_hub._commit_api")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


@contextmanager
def _told(repo: str) -> Iterator[None]:
    """The Hub's refusals and faults on the way there, as one line that says what to do."""
    import httpx2
    from huggingface_hub import errors

    try:
        yield
    except (UserError, _StopRequestedError):
        raise
    except errors.HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status in (401, 403):
            text = "log in with `hf auth login` or set HF_TOKEN to a token that may write there"
            raise UserError(f"the Hub does not let you write to {repo}: {text}") from None
        raise UserError(f"the Hub refused {repo}: {_one_line(error)}") from None
    except (errors.OfflineModeIsEnabled, httpx2.TransportError) as error:
        offline = isinstance(error, errors.OfflineModeIsEnabled)
        why = "HF_HUB_OFFLINE is set" if offline else "the Hub cannot be reached"
        raise UserError(f"{why}, and nothing was published to {repo}; go online, then push again") from None
    except (OSError, RuntimeError, ValueError) as error:
        cause = error.__cause__ if isinstance(error.__cause__, _StopRequestedError) else None
        if cause is not None:  # the client wraps what its stream raised
            raise cause from None
        raise UserError(f"nothing was published to {repo}: {_one_line(error)}") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
