"""Datasets of the Hugging Face Hub: their data files become a stored dataset of the workspace.

Only data files are downloaded; a loading script is never run. Names from the repository never become names here.
"""

from __future__ import annotations

import json
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phi3tune import hosted
from phi3tune.data.files import MAX_FILE_BYTES, suffix_of
from phi3tune.data.hub_files import Chosen, choose
from phi3tune.data.shards import merge_in_child
from phi3tune.data.stored import INFO, DatasetInfo, find_dataset
from phi3tune.errors import UserError
from phi3tune.paths import Workspace, file_hash, new_folder, slug, write_json
from phi3tune.system import disk_free

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

Report = Callable[[str], None]
SOURCE = "hub"
MAX_FILES = 20_000
_TIMEOUT_SECONDS = 20.0
_ID = re.compile(
    r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?::(?P<part>[^@:\s]{1,200}))?(?:@(?P<revision>[^\s@:]{1,200}))?",
    re.ASCII,
)


@dataclass(frozen=True)
class HubId:
    """`owner/name`, with a configuration (or a split) and a branch, tag or commit where they are given."""

    repo: str
    part: str | None = None
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> HubId | None:
        """None when the text does not have that form, or is rather the path of a file: `data/rows.jsonl`."""
        found = _ID.fullmatch(text.strip())
        return None if found is None or suffix_of(found["repo"]) else cls(**found.groupdict())


def fetch(hub_id: str, workspace: Workspace, *, report: Report | None = None) -> DatasetInfo:
    """Download a Hub dataset and store it as a dataset of the workspace, complete or not at all.

    The same commit is stored once: a second call returns what is there. When the Hub cannot be reached, the copy
    that was stored last is taken, and `report` says so. `HF_ENDPOINT`, `HF_TOKEN` and `HF_HUB_OFFLINE` are heeded.
    Every file is checked against the hash that the Hub gives; complete files of an interrupted download are kept in
    the Hub client's cache. Raises `UserError` for an id that is malformed, missing, gated, too large, or without
    data files that can be read.
    """
    wanted, say = HubId.parse(hub_id), report or _silent
    if wanted is None:
        raise UserError(
            f"{hub_id[:200]!r} is no Hub dataset id; write owner/name, owner/name:config or owner/name@revision"
        )
    rules = hosted.rules(workspace)
    if rules is not None and wanted.repo not in rules.datasets:
        known = ", ".join(rules.datasets) or "none"
        raise UserError(f"dataset {wanted.repo!r} of the Hub cannot be used here; those that can be: {known}")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # before the client is imported
    from huggingface_hub import HfApi

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None)
    try:
        with _told(wanted):
            info = api.dataset_info(wanted.repo, revision=wanted.revision, timeout=_TIMEOUT_SECONDS)
    except UnreachableError as error:
        stored = _stored(wanted, None, workspace)
        if stored is None:
            raise
        say(f"{error}; the copy stored earlier is used")
        return stored
    commit = str(info.sha)
    if (stored := _stored(wanted, commit, workspace)) is not None:
        return stored
    with _told(wanted):
        files = _listing(api, wanted.repo, commit)
    card: dict[str, Any] = dict(vars(info.card_data)) if info.card_data else {}
    chosen = choose(list(files), card, wanted.part, wanted.revision, wanted.repo)
    if chosen.left_out:
        say(f"{len(chosen.left_out)} data files of {wanted.repo} are not used, such as {chosen.left_out[0][:100]}")
    _check_size(wanted, chosen, files, workspace)
    return _store(wanted, commit, card, _download(api, wanted, commit, chosen, files, say), workspace)


class UnreachableError(UserError):
    """The Hub did not answer, or the client is told to stay offline."""


def _silent(message: str) -> None:
    """Where nobody wants to be told."""


def _stored(wanted: HubId, commit: str | None, workspace: Workspace) -> DatasetInfo | None:
    """The newest stored copy of a commit; of whatever the same words named last when `commit` is None."""
    found = []
    for path in workspace.datasets.glob(f"[!.]*/{INFO}"):
        try:
            info = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        same = info.get("source") == SOURCE and (info.get("repo"), info.get("part")) == (wanted.repo, wanted.part)
        if same and (
            info.get("commit") == commit if commit else wanted.revision in (info.get("revision"), info.get("commit"))
        ):
            found.append((info.get("created", 0.0), path.parent.name))
    return find_dataset(max(found)[1], workspace) if found else None


def _listing(api: HfApi, repo: str, commit: str) -> dict[str, RepoFile]:
    from huggingface_hub.hf_api import RepoFile

    found = list(islice(api.list_repo_tree(repo, recursive=True, revision=commit, repo_type="dataset"), MAX_FILES + 1))
    if len(found) > MAX_FILES:
        raise UserError(f"{repo} has more than {MAX_FILES:,} files; download what you need and give its folder")
    return {item.path: item for item in found if isinstance(item, RepoFile)}


def _check_size(wanted: HubId, chosen: Chosen, files: dict[str, RepoFile], workspace: Workspace) -> None:
    from huggingface_hub import constants

    size = sum(files[path].size for paths in chosen.parts.values() for path in paths)
    if size > MAX_FILE_BYTES:
        raise UserError(
            f"{wanted.repo} has {size:,} bytes of data; at most {MAX_FILE_BYTES:,} are accepted: name a smaller "
            "configuration or split, or download a part and give its path"
        )
    hosted.check_storage(workspace, size)
    # Once in the Hub client's cache and once in the workspace.
    for folder in (Path(constants.HF_HUB_CACHE), workspace.root):
        if (free := disk_free(folder)) < size * 2:
            raise UserError(f"{wanted.repo} needs {size * 2:,} bytes of disk, {free:,} are free in {folder}: make room")


def _download(
    api: HfApi, wanted: HubId, commit: str, chosen: Chosen, files: dict[str, RepoFile], say: Report
) -> dict[str, list[tuple[str, Path]]]:
    """Part -> (name in the repository, file in the client's cache)."""
    total = sum(len(paths) for paths in chosen.parts.values())
    found: dict[str, list[tuple[str, Path]]] = {}
    done = 0
    for part, paths in chosen.parts.items():
        for path in paths:
            done += 1
            say(f"downloading {wanted.repo}: file {done} of {total} ({files[path].size:,} bytes)")
            with _told(wanted):
                copy = api.hf_hub_download(wanted.repo, path, repo_type="dataset", revision=commit)
            _check_hash(Path(copy), files[path], wanted)
            found.setdefault(part, []).append((path, Path(copy)))
    return found


def _check_hash(copy: Path, file: RepoFile, wanted: HubId) -> None:
    """The client checks only the size. Large files are known by sha256, the others by git's hash of a blob."""
    from huggingface_hub.utils.sha import git_hash

    same = file_hash(copy) == file.lfs.sha256 if file.lfs else git_hash(copy.read_bytes()) == file.blob_id
    if not same:
        copy.resolve().unlink()  # else the client would take it for complete the next time
        raise UserError(f"{file.path} of {wanted.repo} arrived damaged and was removed; try again")


def _store(
    wanted: HubId, commit: str, card: dict[str, Any], found: dict[str, list[tuple[str, Path]]], workspace: Workspace
) -> DatasetInfo:
    dataset_id = f"{slug(wanted.repo.split('/')[1])}-{uuid.uuid4().hex[:8]}"
    with new_folder(workspace.datasets / dataset_id) as folder:
        files = [merge_in_child(shards, folder / part) for part, shards in found.items()]
        info = {
            "schema": 1,
            "original_name": wanted.repo,
            "file": ".",  # the folder itself: one file for each part
            "bytes": sum(file.stat().st_size for file in files),
            "sha256": {file.name: file_hash(file) for file in files},
            "source": SOURCE,
            "repo": wanted.repo,
            "part": wanted.part,
            "revision": wanted.revision,
            "commit": commit,
            "licence": card.get("license"),
        }
        write_json(folder / INFO, {**info, "created": time.time()})
    stored = find_dataset(dataset_id, workspace)
    assert stored is not None
    return stored


@contextmanager
def _told(wanted: HubId) -> Iterator[None]:
    """Faults of the Hub and of the way there, as one line that says what to do."""
    import httpx2
    from huggingface_hub import errors

    name, page = f"dataset {wanted.repo!r}", f"https://huggingface.co/datasets/{wanted.repo}"
    try:
        yield
    except errors.HFValidationError as error:
        raise UserError(f"{name} is no valid Hub id: {_one_line(error)}") from None
    except errors.GatedRepoError:
        raise UserError(f"{name} is gated: accept its terms at {page} and log in with `hf auth login`") from None
    except errors.RepositoryNotFoundError:
        raise UserError(
            f"{name} was not found on the Hub: check the name, or log in with `hf auth login` if it is private"
        ) from None
    except errors.RevisionNotFoundError:
        raise UserError(f"{name} has no revision {wanted.revision!r}; its branches are listed at {page}") from None
    except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError, httpx2.TransportError) as error:
        why = "HF_HUB_OFFLINE is set" if isinstance(error, errors.OfflineModeIsEnabled) else "it does not answer"
        raise UnreachableError(
            f"{name} is no file here, and the Hub cannot be asked for it ({why}): go online, or check the path"
        ) from None
    except (OSError, httpx2.HTTPError) as error:
        raise UserError(f"{name} cannot be downloaded: {_one_line(error)}") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
