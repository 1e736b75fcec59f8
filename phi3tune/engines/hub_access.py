"""What the Hugging Face Hub and its client's cache hold of a model: may it be had, and what does that take."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phi3tune import system
from phi3tune.engines.folders import check_config, check_weights, read_json
from phi3tune.errors import UserError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

SUFFIXES = (".json", ".safetensors", ".jinja")
_TIMEOUT_SECONDS = 20.0
_ID = re.compile(
    r"(?P<repo>[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*)(?:@(?P<revision>[A-Za-z0-9][A-Za-z0-9._/-]{0,199}))?"
)


@dataclass(frozen=True)
class HubModel:
    """`owner/name`, with a branch, tag or commit where it is given: `owner/name@revision`."""

    repo: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> HubModel | None:
        """None when the text does not have that form."""
        found = _ID.fullmatch(text.strip())
        return None if found is None or ".." in text else cls(**found.groupdict())

    def __str__(self) -> str:
        return self.repo if self.revision is None else f"{self.repo}@{self.revision}"


@dataclass(frozen=True)
class HubFile:
    """A file of a model. `sha256` of a large file; `git` is git's hash of the others."""

    path: str
    size: int
    sha256: str | None
    git: str


@dataclass(frozen=True)
class Access:
    """What the Hub says of a model. Sizes in bytes.

    commit             what the revision stands for; empty when the Hub did not tell
    needs_token        it is there for some only, and who asks is none of them (or it is not there at all)
    architecture       the class that its config.json names
    bytes_to_download  of the files that the cache lacks
    problems           why it cannot be used, each with what to do; empty when all is well
    """

    hub_id: str
    revision: str | None
    commit: str = ""
    private: bool = False
    gated: bool = False
    needs_token: bool = False
    license: str | None = None
    architecture: str | None = None
    files: tuple[HubFile, ...] = ()
    bytes_total: int = 0
    bytes_to_download: int = 0
    cache: str = ""
    disk_free: int = 0
    problems: tuple[str, ...] = ()

    @property
    def pinned(self) -> str:
        """A name of exactly these weights: `owner/name@commit`."""
        return str(HubModel(self.hub_id, self.commit or self.revision))

    @property
    def cached(self) -> bool:
        return bool(self.files) and self.bytes_to_download == 0


def cached_folder(model: HubModel) -> Path | None:
    """The folder of a model that the local cache holds whole, or None; asks nobody."""
    from huggingface_hub import errors, snapshot_download

    try:
        found = Path(snapshot_download(model.repo, revision=model.revision, local_files_only=True))
    except (errors.LocalEntryNotFoundError, errors.HFValidationError):
        return None
    shards = found / "model.safetensors.index.json"
    if not (found / "config.json").is_file() or not ((found / "model.safetensors").is_file() or shards.is_file()):
        return None
    try:
        check_weights(found)
    except UserError as error:
        # A download that was cut short lacks files; what is wrong with a whole model is for the caller to hear.
        return None if "lacks" in str(error) else found
    return found


def cached_models() -> list[tuple[HubModel, Path]]:
    """Phi-3 models of the Hub that the cache holds whole, each commit for itself."""
    from huggingface_hub import CacheNotFound, scan_cache_dir

    try:
        repos = scan_cache_dir(cache_folder()).repos
    except CacheNotFound:
        return []
    found = []
    for repo in sorted(repos, key=lambda repo: repo.repo_id):
        for revision in repo.revisions if repo.repo_type == "model" else ():
            model = HubModel(repo.repo_id, revision.commit_hash)
            try:
                check_weights(revision.snapshot_path)
            except UserError:
                continue  # of another kind, or not whole
            found.append((model, revision.snapshot_path))
    return found


def examine(hub_id: str, revision: str | None = None, token: str | None = None) -> Access:
    """Ask the Hub about a model; fetches its config.json and nothing else.

    `token` wins over the environment's and the logged-in one. What stands in the way is in `problems`. When the Hub
    cannot be reached, the copy in the cache answers for it. Raises `UserError` for an id that is malformed.
    """
    model = HubModel.parse(hub_id)
    if model is None:
        raise UserError(f"{hub_id[:200]!r} is no Hub id; write owner/name, such as microsoft/Phi-3-mini-4k-instruct")
    model = HubModel(model.repo, revision or model.revision)
    api, cache = client(token), cache_folder()
    told = Access(model.repo, model.revision, cache=str(cache), disk_free=system.disk_free(cache))
    try:
        with reported(model):
            info = api.model_info(model.repo, revision=model.revision, timeout=_TIMEOUT_SECONDS)
            files = _files(api, model.repo, str(info.sha))
            config = api.hf_hub_download(model.repo, "config.json", revision=str(info.sha))
    except _HubError as error:
        whole = cached_folder(model)
        if whole is None or not error.unreachable:
            return replace(told, gated=error.gated, needs_token=error.needs_token, problems=(str(error),))
        files = tuple(HubFile(p.name, p.stat().st_size, None, "") for p in whole.iterdir() if p.suffix in SUFFIXES)
        return replace(told, commit=whole.name, files=files, bytes_total=sum(file.size for file in files))
    missing = [file for file in files if held(model.repo, str(info.sha), file) is None]
    card: Any = info.card_data or {}
    told = replace(
        told,
        commit=str(info.sha),
        private=bool(info.private),
        gated=bool(info.gated),
        license=card.get("license"),
        files=files,
        bytes_total=sum(file.size for file in files),
        bytes_to_download=sum(file.size for file in missing),
    )
    architecture, problem = _architecture(Path(config), model)
    problems = [problem] if problem else []
    names = {file.path for file in files}
    if not any(name.endswith(".safetensors") for name in names):
        problems.append(f"{model} has no weights as safetensors; name another revision, or convert a copy of it")
    if "tokenizer.json" not in names:
        problems.append(f"{model} has no tokenizer.json; name the model that it was made from")
    if told.bytes_to_download > told.disk_free:
        problems.append(
            f"{model} needs {told.bytes_to_download / 1e9:,.1f} GB of disk, {told.disk_free / 1e9:,.1f} GB are free "
            f"in {cache}: make room, or set HF_HOME to another disk"
        )
    return replace(told, architecture=architecture, problems=tuple(problems))


def _files(api: HfApi, repo: str, commit: str) -> tuple[HubFile, ...]:
    """The files of a checkpoint: those at the top of the repository, of the types that are loaded."""
    from huggingface_hub.hf_api import RepoFile

    found = []
    for item in api.list_repo_tree(repo, revision=commit):
        if isinstance(item, RepoFile) and "/" not in item.path and item.path.endswith(SUFFIXES):
            found.append(HubFile(item.path, item.size, item.lfs.sha256 if item.lfs else None, item.blob_id))
    return tuple(sorted(found, key=lambda file: (file.size, file.path)))


def held(repo: str, commit: str, file: HubFile) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo, file.path, revision=commit, cache_dir=cache_folder())
    return Path(found) if isinstance(found, str) and Path(found).stat().st_size == file.size else None


def _architecture(config: Path, model: HubModel) -> tuple[str | None, str]:
    """The class that a config.json names, and why it is not accepted."""
    named = read_json(config).get("architectures")
    architecture = str(named[0])[:80] if isinstance(named, list) and named else None
    try:
        check_config(config.parent)
    except UserError as error:
        return architecture, str(error).replace(str(config.parent), str(model))
    return architecture, ""


def client(token: str | None) -> HfApi:
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # before the client is imported
    from huggingface_hub import HfApi

    return HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, token=token)


def cache_folder() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


class _HubError(UserError):
    """Why the Hub gave nothing."""

    unreachable = False
    gated = False
    needs_token = False


@contextmanager
def reported(model: HubModel) -> Iterator[None]:
    """Faults of the Hub and of the way there, as one line that says what to do."""
    import httpx2
    from huggingface_hub import errors

    def problem(text: str, **facts: bool) -> _HubError:
        found = _HubError(f"model {str(model)!r} {text}")
        for name, value in facts.items():
            setattr(found, name, value)
        return found

    page = f"https://huggingface.co/{model.repo}"
    try:
        yield
    except errors.HFValidationError as error:
        raise problem(f"is malformed as a Hub id: {_one_line(error)}") from None
    except errors.GatedRepoError:
        text = f"is gated: accept its terms at {page} and log in with `hf auth login`, or give a token"
        raise problem(text, gated=True, needs_token=True) from None
    except errors.RepositoryNotFoundError:
        text = "was not found on the Hub: check the name, or log in with `hf auth login` if it is private"
        raise problem(text, needs_token=True) from None
    except errors.RevisionNotFoundError:
        raise problem(f"has no such revision; its branches are listed at {page}/tree/main") from None
    except errors.EntryNotFoundError:
        raise problem("has no config.json, so it holds no model; check the name") from None
    except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError, httpx2.TransportError) as error:
        offline = isinstance(error, errors.OfflineModeIsEnabled) or os.environ.get("HF_HUB_OFFLINE")
        why = "HF_HUB_OFFLINE is set" if offline else "the Hub cannot be reached"
        text = f"is not in the local cache and {why}: go online once, or copy the model here and name its folder"
        raise problem(text, unreachable=True) from None
    except UserError:
        raise
    except (OSError, httpx2.HTTPError) as error:
        raise problem(f"cannot be downloaded: {_one_line(error)}") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
