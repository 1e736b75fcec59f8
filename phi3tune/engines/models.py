"""From what a person calls a model to the folders that it is loaded from.

Only small files are read here, so that the page can list models every second; hashes are checked
when a model is opened (`verify`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from phi3tune.config import read_yaml
from phi3tune.engines import address
from phi3tune.engines.folders import check_adapter, folder_kind, read_json
from phi3tune.errors import UserError
from phi3tune.paths import MANIFEST, NANO, Workspace, check_name, inside, is_run, manifest_problem

NANO_NAME = "phi3-nano"
Kind = Literal["torch", "onnxruntime-genai", "remote"]
_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_CHECKPOINT = re.compile(r"checkpoint-[0-9]{1,12}")
_HUB_FILES = ["*.json", "*.safetensors", "*.jinja"]


@dataclass(frozen=True)
class ModelRef:
    """A model that exists, and where its parts lie.

    ref      what resolves to it again, in any working directory
    folder   folder with whole weights (kind torch) or with the build (kind onnxruntime-genai); None for an endpoint
    adapter  folder of a LoRA adapter on `folder`, or None
    run      the run that made it, or None
    """

    ref: str
    label: str
    kind: Kind
    folder: Path | None
    adapter: Path | None = None
    run: str | None = None

    @property
    def base(self) -> Path:
        """`folder`. Raises `UserError` for an endpoint, whose weights are elsewhere."""
        if self.folder is None:
            raise UserError(f"{self.ref} is an endpoint, whose weights are elsewhere; name a model on this machine")
        return self.folder

    @property
    def tokenizer(self) -> Path:
        """Folder that the prompt renderer is loaded from."""
        return self.base


def resolve(ref: str, workspace: Workspace) -> ModelRef:
    """The model that `ref` names: `phi3-nano`, RUN, RUN/checkpoint-N, RUN/merged, RUN/onnx/BUILD, a folder or a Hub id.

    Run ids win over paths, paths over Hub ids. A Hub model that is not in the local cache is downloaded. An address
    (`http(s)://host/v1`, `http(s)://host/v1#model`) is an endpoint, which is not asked whether it is there.
    Raises `UserError` when there is no such model or it is none that can be loaded.
    """
    return _Resolver(workspace).resolve(ref)


def whole_weights(ref: ModelRef, workspace: Workspace) -> Path:
    """The folder of one whole checkpoint, such as training can start from.

    A LoRA run is whole where it was merged. Raises `UserError` for other adapters and for builds.
    """
    return _Resolver(workspace).whole_weights(ref)


def buildable(ref: str, form: Literal["merged", "onnx"], workspace: Workspace) -> ModelRef:
    """The model that an export starts from. Raises `UserError` when it cannot be built in that form."""
    found = resolve(ref, workspace)
    base = found.base
    if found.kind != "torch":
        raise UserError(f"{ref} is an ONNX build already; give the run or the folder it was made from")
    if form == "merged" and found.adapter is None and found.run is None:
        raise UserError(f"{ref} has no adapter to merge; its folder {base} is what a merge would give")
    return found


def list_models(workspace: Workspace) -> list[ModelRef]:
    """Models to choose from: phi3-nano, every run that has a result, and every build; never downloads."""
    found = []
    for ref in (NANO_NAME, *_run_refs(workspace), *_other_builds(workspace)):
        try:
            found.append(_Resolver(workspace, download=False).resolve(ref))
        except UserError:
            continue  # unfinished, or its base is gone: `resolve` tells why when it is named
    return found


def verify(ref: ModelRef) -> None:
    """Check the hashes of what is about to be loaded; raise `UserError` when a file was altered or is missing."""
    verify_folder(ref.base, ref.label, ours=ref.run is not None and ref.adapter is None)
    if ref.adapter is not None:
        verify_folder(ref.adapter, ref.label, ours=ref.run is not None)


def verify_folder(folder: Path, label: str, *, ours: bool) -> None:
    """The same for one folder. What this program wrote has a manifest; other people's folders need none."""
    if not ours and not (folder / MANIFEST).is_file():
        return
    problem = manifest_problem(folder)
    if problem:
        raise UserError(f"{label} cannot be loaded from {folder}: {problem}; make it again or restore the files")


def _run_refs(workspace: Workspace) -> Iterator[str]:
    for folder in workspace.run_folders():
        adapter, merged = (folder / "adapter").is_dir(), (folder / "merged").is_dir()
        if adapter or merged:
            yield folder.name
        if adapter and merged:
            yield f"{folder.name}/merged"
        for build in _builds(folder):
            yield f"{folder.name}/onnx/{build.name}"


def _other_builds(workspace: Workspace) -> Iterator[str]:
    models = workspace.exports / "models"
    if models.is_dir():
        for folder in sorted(models.iterdir()):
            yield from (str(build) for build in _builds(folder))


def _builds(folder: Path) -> list[Path]:
    onnx = folder / "onnx"
    return sorted(path for path in onnx.iterdir() if path.name[0] != ".") if onnx.is_dir() else []


class _Resolver:
    """One resolution. A run's own name in its `run.yaml` means what it meant before that run existed."""

    def __init__(self, workspace: Workspace, *, download: bool = True) -> None:
        self._workspace = workspace
        self._download = download
        self._within: list[str] = []

    def resolve(self, ref: str) -> ModelRef:
        ref = ref.strip()
        if ref == NANO_NAME:
            return self._folder(NANO, ref=NANO_NAME, label=NANO_NAME)
        if address.is_address(ref):
            endpoint = address.parse(ref)
            return ModelRef(str(endpoint), endpoint.label, "remote", None)
        run, _, part = ref.rstrip("/").partition("/")
        if run not in self._within and self._is_run(run):
            return self._run(run, part)
        path = _existing(ref)
        if path is not None:
            return self._folder(path.absolute())
        if _HUB_ID.fullmatch(ref) and ".." not in ref:
            return self._folder(_snapshot(ref, download=self._download), ref=ref, label=ref)
        runs = ", ".join(folder.name for folder in self._workspace.run_folders()) or "none yet"
        raise UserError(
            f"model {ref[:200]!r} does not exist: it is no run (runs: {runs}), no folder, no Hub id (owner/name) "
            f"and no endpoint (http://host/v1); {NANO_NAME} is always there"
        )

    def whole_weights(self, ref: ModelRef) -> Path:
        if ref.kind == "onnxruntime-genai":
            raise UserError(
                f"{ref.label} is an ONNX build, which cannot be trained or merged; name the model it was built from"
            )
        if ref.adapter is None:
            return ref.base
        if ref.run is not None and ref.ref == ref.run:
            merged = self._workspace.runs / ref.run / "merged"
            if merged.is_dir():
                return self._inside(merged)
            raise UserError(
                f"{ref.label} is a LoRA run without merged weights; merge it first: "
                f"phi3tune export {ref.ref} --format merged"
            )
        raise UserError(
            f"{ref.label} is a LoRA adapter, not whole weights; name a run and merge it, or a whole checkpoint"
        )

    def _is_run(self, name: str) -> bool:
        try:
            return is_run(self._workspace.runs / check_name(name))
        except UserError:
            return False

    def _run(self, run: str, part: str) -> ModelRef:
        folder = self._workspace.runs / run
        if part == "":
            trained = folder / "adapter" if (folder / "adapter").is_dir() else folder / "merged"
            missing = "it has no result yet; wait until it is completed, or resume it"
        elif part == "merged":
            trained, missing = folder / "merged", f"merge it first: phi3tune export {run} --format merged"
        elif _CHECKPOINT.fullmatch(part):
            trained = folder / "checkpoints" / part
            known = ", ".join(sorted(path.parent.name for path in folder.glob(f"checkpoints/checkpoint-*/{MANIFEST}")))
            missing = f"complete checkpoints: {known or 'none'}"
            if not (trained / MANIFEST).is_file():  # the trainer writes in place: without a manifest it is a fragment
                raise UserError(f"run {run!r} has no complete {part}; {missing}")
        elif part.startswith("onnx/"):
            trained = folder / "onnx" / check_name(part.removeprefix("onnx/"), "build name")
            missing = f"builds: {', '.join(path.name for path in _builds(folder)) or 'none'}"
        else:
            raise UserError(
                f"run {run!r} has no {part[:80]!r}; "
                f"accepted are {run}, {run}/checkpoint-N, {run}/merged and {run}/onnx/BUILD"
            )
        if not trained.is_dir():
            raise UserError(f"run {run!r} has no {part or 'trained model'}: {missing}")
        trained = self._inside(trained)
        ref = f"{run}/{part}" if part else run
        if (trained / "adapter_config.json").is_file() and not (trained / "config.json").is_file():
            check_adapter(trained)
            return ModelRef(ref, ref, "torch", self._base_of(run), trained, run)
        return self._folder(trained, ref=ref, label=ref, run=run)

    def _base_of(self, run: str) -> Path:
        model = _settings(self._workspace.runs / run / "run.yaml")
        self._within.append(run)
        try:
            return self.whole_weights(self.resolve(model))
        except UserError as error:
            raise UserError(f"the base of run {run!r} cannot be loaded: {error}") from None
        finally:
            self._within.pop()

    def _folder(
        self, folder: Path, *, ref: str | None = None, label: str | None = None, run: str | None = None
    ) -> ModelRef:
        ref, label = ref or str(folder), label or self._label(folder)
        kind = folder_kind(folder)
        if kind == "build":
            return ModelRef(ref, label, "onnxruntime-genai", folder, None, run)
        if kind == "weights":
            return ModelRef(ref, label, "torch", folder, None, run)
        base = read_json(folder / "adapter_config.json").get("base_model_name_or_path")
        if not isinstance(base, str) or not base or _existing(base) == folder:
            raise UserError(f"the adapter in {folder} does not say which model it belongs to (base_model_name_or_path)")
        try:
            weights = self.whole_weights(self.resolve(base))
        except UserError as error:
            raise UserError(f"the base of the adapter in {folder} cannot be loaded: {error}") from None
        return ModelRef(ref, label, "torch", weights, folder, run)

    def _label(self, folder: Path) -> str:
        models = self._workspace.exports / "models"
        return folder.relative_to(models).as_posix() if folder.is_relative_to(models) else folder.name

    def _inside(self, folder: Path) -> Path:
        if not inside(folder, self._workspace.runs):
            raise UserError(f"{folder} is a link that leads out of the workspace; put the files there instead")
        return folder


def _existing(ref: str) -> Path | None:
    """The folder that `ref` names, or None; `UserError` when it names a file."""
    try:
        path = Path(ref).expanduser()
        if ref and path.is_dir():
            return path
        is_file = path.is_file()
    except (OSError, RuntimeError):  # a name too long for the system; no such home
        return None
    if is_file:
        raise UserError(f"{ref} is a file; name the folder that holds config.json and the weights")
    return None


def _settings(path: Path) -> str:
    """The `model` setting of a run, read again only when its file changed."""
    try:
        return _model_setting(path, path.stat().st_mtime_ns)
    except FileNotFoundError:
        raise UserError(f"{path} is gone") from None


@lru_cache(maxsize=1024)
def _model_setting(path: Path, _changed: int) -> str:
    model = read_yaml(path).get("model", NANO_NAME)
    if not isinstance(model, str):
        raise UserError(f"{path} must name its model as text")
    return model


def _snapshot(hub_id: str, *, download: bool) -> Path:
    """Folder of a Hub model: from the local cache, else downloaded. Tokens are the Hub client's own affair."""
    import httpx2
    from huggingface_hub import errors, snapshot_download

    def fetch(local_files_only: bool) -> Path:
        return Path(snapshot_download(hub_id, allow_patterns=_HUB_FILES, local_files_only=local_files_only))

    def error(problem: str) -> UserError:
        return UserError(f"model {hub_id!r} is no run and no folder, and as a Hub id {problem}")

    try:
        return fetch(True)
    except errors.HFValidationError as invalid:
        raise error(f"it is malformed: {_one_line(invalid)}") from None
    except errors.LocalEntryNotFoundError:
        if not download:
            raise error("it is not in the local cache") from None
    try:
        return fetch(False)
    except errors.GatedRepoError:
        raise error(
            f"it is gated: accept its terms at https://huggingface.co/{hub_id} and log in with `hf auth login`"
        ) from None
    except errors.RepositoryNotFoundError:
        raise error("it was not found: check the name, or log in with `hf auth login` if it is private") from None
    except errors.LocalEntryNotFoundError:
        offline = "HF_HUB_OFFLINE is set" if os.environ.get("HF_HUB_OFFLINE") else "the Hub cannot be reached"
        raise error(
            f"it is not in the local cache and {offline}: go online once, or copy the model here and name its folder"
        ) from None
    except (OSError, httpx2.HTTPError) as failure:
        raise error(f"it cannot be downloaded: {_one_line(failure)}") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
