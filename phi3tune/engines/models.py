"""From what a person calls a model to the folders that it is loaded from.

Only small files are read here, so that the page can list models every second; hashes are checked
when a model is opened (`verify`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

from phi3tune import hosted
from phi3tune.config import BuildFormat, read_yaml
from phi3tune.engines import address, hub_models
from phi3tune.engines.folders import (
    ADAPTER_BASE,
    Task,
    check_adapter,
    check_build,
    fails_parity,
    folder_kind,
    read_json,
    task_of,
)
from phi3tune.engines.hub_models import HubModel
from phi3tune.errors import UserError
from phi3tune.paths import MANIFEST, NANO, Workspace, check_name, file_hash, inside, is_run, manifest_problem

NANO_NAME = "phi3-nano"
Kind = Literal["torch", "onnxruntime-genai", "onnxruntime", "remote"]
MODEL_RECORD = "model.json"  # of a run: what it started from
FAILING = "fails parity"
_CHECKPOINT = re.compile(r"checkpoint-[0-9]{1,12}")


@dataclass(frozen=True)
class ModelRef:
    """A model that exists, and where its parts lie.

    ref      what resolves to it again, in any working directory
    folder   folder with whole weights (kind torch) or with the build (the onnxruntime kinds); None for an endpoint
    adapter  folder of a LoRA adapter on `folder` (an .onnx_adapter on a build), or None
    run      the run that made it, or None
    task     what it does: answer chats, or choose one of its labels
    origin   of an adapter: what resolves to `folder`
    failing  a build that does not answer like the model it was made from; its label says so, too
    """

    ref: str
    label: str
    kind: Kind
    folder: Path | None
    adapter: Path | None = None
    run: str | None = None
    task: Task = "chat"
    origin: str | None = None
    failing: bool = False

    @property
    def base(self) -> Path:
        """`folder`. Raises `UserError` for an endpoint, whose weights are elsewhere."""
        if self.folder is None:
            raise UserError(f"{self.ref} is an endpoint, whose weights are elsewhere; name a model on this machine")
        return self.folder

    @property
    def loaded(self) -> Path:
        """Folder that a loaded model is known by: the base that adapters share, or the adapter of a classifier, whose
        head is not the base's."""
        return self.adapter if self.task == "classification" and self.adapter is not None else self.base

    @property
    def tokenizer(self) -> Path:
        """Folder that the prompt renderer is loaded from."""
        return self.base


def resolve(ref: str, workspace: Workspace, *, download: bool = True) -> ModelRef:
    """The model that `ref` names: `phi3-nano`, RUN, RUN/checkpoint-N, RUN/merged, RUN/onnx/BUILD, a folder or a Hub id.

    Run ids win over paths, paths over Hub ids. A Hub id may name a branch, tag or commit (`owner/name@revision`); a Hub
    model that is not in the local cache is downloaded, unless `download` is False. An address
    (`http(s)://host/v1`, `http(s)://host/v1#model`) is an endpoint, which is not asked whether it is there.
    Raises `UserError` when there is no such model or it is none that can be loaded.
    """
    return _Resolver(workspace, download=download).resolve(ref)


def hub_model(ref: str, revision: str | None, workspace: Workspace) -> HubModel | None:
    """The Hub model that `ref` names, of this revision where one is given; None for a run, a folder and the others.

    Raises `UserError` for a revision of something that is not on the Hub.
    """
    resolver, name = _Resolver(workspace), ref.strip()
    elsewhere = name == NANO_NAME or address.is_address(name) or resolver.names_run(name) or resolver.existing(name)
    found = None if elsewhere else HubModel.parse(name)
    if found is not None:
        hosted.check_hub_model(found.repo, workspace)
    if revision is None:
        return found
    if found is None:
        raise UserError(f"--revision {revision} belongs to Hub models, and {name[:200]} is none; leave it out")
    return HubModel(found.repo, revision)


def whole_weights(ref: ModelRef, workspace: Workspace) -> Path:
    """The folder of one whole checkpoint, such as training can start from.

    A LoRA run is whole where it was merged. Raises `UserError` for other adapters and for builds.
    """
    return _Resolver(workspace).whole_weights(ref)


def starting_point(ref: ModelRef, workspace: Workspace, *, adapter: bool) -> ModelRef:
    """What a run on `ref` starts from: whole weights or, when an `adapter` is to be trained and `ref` is one, that.

    Raises `UserError` for builds and, where whole weights are needed, for adapters that were not merged.
    """
    resolver = _Resolver(workspace)
    if adapter and ref.adapter is not None:
        return ref
    return replace(ref, folder=resolver.whole_weights(ref), adapter=None, origin=None)


def buildable(ref: str, form: BuildFormat, workspace: Workspace) -> ModelRef:
    """The model that an export starts from. Raises `UserError` when it cannot be built in that form."""
    found = resolve(ref, workspace)
    base = found.base
    if found.kind != "torch":
        raise UserError(f"{ref} is an ONNX build already; give the run or the folder it was made from")
    if form == "merged" and found.adapter is None and found.run is None:
        raise UserError(f"{ref} has no adapter to merge; its folder {base} is what a merge would give")
    if form == "onnx-adapter" and found.adapter is None:
        raise UserError(f"{ref} has no adapter; use --format onnx, which builds whole weights")
    if form in ("onnx", "onnx-adapter") and found.task == "classification":
        raise UserError(f"{ref} is a classifier, which onnxruntime-genai cannot run; use --format portable-onnx")
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
            yield from (own_name(build, workspace) for build in _builds(folder))


def own_name(folder: Path, workspace: Workspace) -> str:
    """What resolves to a folder again in any working directory; visitors are not told where their workspace lies."""
    return str(folder.absolute()) if workspace.shared is None else folder.relative_to(workspace.root).as_posix()


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
            hosted.refuse_visitor(self._workspace, "an endpoint elsewhere")
            endpoint = address.parse(ref)
            return ModelRef(str(endpoint), endpoint.label, "remote", None)
        run, _, part = ref.rstrip("/").partition("/")
        if run not in self._within and self._is_run(run):
            return self._run(run, part)
        path = self.existing(ref)
        if path is not None:
            return self._folder(path.absolute(), ref=own_name(path, self._workspace))
        if (hub := HubModel.parse(ref)) is not None:
            hosted.check_hub_model(hub.repo, self._workspace)
            return self._folder(hub_models.folder(hub, download=self._download), ref=ref, label=hub.repo)
        runs = ", ".join(folder.name for folder in self._workspace.run_folders()) or "none yet"
        raise UserError(
            f"model {ref[:200]!r} does not exist: it is no run (runs: {runs}), no folder, no Hub id (owner/name) "
            f"and no endpoint (http://host/v1); {NANO_NAME} is always there"
        )

    def whole_weights(self, ref: ModelRef) -> Path:
        if ref.kind in ("onnxruntime-genai", "onnxruntime"):
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

    def existing(self, ref: str) -> Path | None:
        """The folder that `ref` names; for a visitor only one of their own builds, by its place in their workspace."""
        if self._workspace.shared is None:
            return _existing(ref)
        path = str(self._workspace.root / ref)
        return _existing(path) if ref and _lies_in(path, self._workspace.exports) else None

    def names_run(self, ref: str) -> bool:
        return self._is_run(ref.partition("/")[0])

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
            base = self._base_of(run)
            return ModelRef(ref, ref, "torch", base.base, trained, run, task_of(trained), base.ref)
        return self._folder(trained, ref=ref, label=ref, run=run)

    def _base_of(self, run: str) -> ModelRef:
        """The whole weights under a run's adapter; a run that trained on from an adapter names that adapter's base."""
        self._within.append(run)
        try:
            base = self.resolve(_base_name(self._workspace.runs / run))
            return replace(base, folder=self.whole_weights(base), adapter=None)
        except UserError as error:
            raise UserError(f"the base of run {run!r} cannot be loaded: {error}") from None
        finally:
            self._within.pop()

    def _folder(
        self, folder: Path, *, ref: str | None = None, label: str | None = None, run: str | None = None
    ) -> ModelRef:
        ref, label = ref or str(folder), label or self._label(folder)
        kind = folder_kind(folder)
        if kind == "build adapter":
            return self._build_adapter(folder, ref, label, run)
        if kind in ("build", "portable"):
            failing = fails_parity(folder)
            label = f"{label} ({FAILING})" if failing else label
            if kind == "build":
                return ModelRef(ref, label, "onnxruntime-genai", folder, None, run, failing=failing)
            return ModelRef(ref, label, "onnxruntime", folder, None, run, task_of(folder), failing=failing)
        if kind == "weights":
            return ModelRef(ref, label, "torch", folder, None, run, task_of(folder))
        lora = read_json(folder / "adapter_config.json")
        base, revision = lora.get("base_model_name_or_path"), lora.get("revision")
        if not isinstance(base, str) or not base or _existing(base) == folder:
            raise UserError(f"the adapter in {folder} does not say which model it belongs to (base_model_name_or_path)")
        try:
            whole = self.resolve(f"{base}@{revision}" if revision else base)
            weights = self.whole_weights(whole)
        except UserError as error:
            raise UserError(f"the base of the adapter in {folder} cannot be loaded: {error}") from None
        return ModelRef(ref, label, "torch", weights, folder, run, task_of(folder), whole.ref)

    def _build_adapter(self, folder: Path, ref: str, label: str, run: str | None) -> ModelRef:
        """An .onnx_adapter with the build that it belongs to, which lies in the workspace."""
        record = read_json(folder / ADAPTER_BASE)
        base = self._workspace.root / str(record.get("base"))
        if not inside(base, self._workspace.root) or not (base / MANIFEST).is_file():
            raise UserError(f"the base build of {label} is gone: {record.get('base')}; export {label} again")
        if file_hash(base / MANIFEST) != record.get("sha256"):
            raise UserError(f"the base build of {label} was made anew since; export {label} again")
        check_build(base)
        failing = fails_parity(folder)
        label = f"{label} ({FAILING})" if failing else label
        return ModelRef(ref, label, "onnxruntime-genai", base, folder, run, origin=str(base), failing=failing)

    def _label(self, folder: Path) -> str:
        models = self._workspace.exports / "models"
        return folder.relative_to(models).as_posix() if folder.is_relative_to(models) else folder.name

    def _inside(self, folder: Path) -> Path:
        if not inside(folder, self._workspace.runs):
            raise UserError(f"{folder} is a link that leads out of the workspace; put the files there instead")
        return folder


def _lies_in(ref: str, root: Path) -> bool:
    """Whether a path, links followed, lies in `root`."""
    try:
        return inside(Path(ref), root)
    except (OSError, ValueError):  # a name that no system takes
        return False


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


def _base_name(run: Path) -> str:
    """What a run's adapter belongs to: as recorded when its training began, else the `model` setting."""
    for path, key in ((run / MODEL_RECORD, "base"), (run / "run.yaml", "model")):
        try:
            name = _named(path, key, path.stat().st_mtime_ns)
        except FileNotFoundError:
            continue
        if name is not None:
            return name
    raise UserError(f"{run / 'run.yaml'} is gone")


@lru_cache(maxsize=1024)
def _named(path: Path, key: str, _changed: int) -> str | None:
    """One name out of a run's file, read again only when the file changed."""
    name = read_json(path).get(key) if path.suffix == ".json" else read_yaml(path).get(key, NANO_NAME)
    if name is not None and not isinstance(name, str):
        raise UserError(f"{path} must name its {key} as text")
    return name
