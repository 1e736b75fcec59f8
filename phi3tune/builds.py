"""The builds of a workspace: merged weights and ONNX builds, with their proof; shown, packed, deleted."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from phi3tune import jobs, system
from phi3tune.config import EvalConfig, ExportConfig, TrainConfig
from phi3tune.engines import models
from phi3tune.engines.folders import PARITY, PORTABLE, read_json
from phi3tune.errors import UserError
from phi3tune.paths import MANIFEST, Workspace, discard, new_file, slug

if TYPE_CHECKING:
    from phi3tune.engines.pool import Pool

BUILD = "build.json"
_CHUNK = 4 * 1024**2
Form = Literal["merged", "onnx", "portable-onnx", "onnx-adapter"]


@dataclass(frozen=True)
class Build:
    """One result of an export.

    ref         what resolves to it
    label       what a list calls it
    name        its folder's name, such as int4-cuda, or merged
    model       what it was made from: a run, a checkpoint or a folder
    size_bytes  all of its files
    parity      the content of its parity.json; None where nothing was compared, or the file is damaged
    failing     it was compared with its model and missed the limits, or that cannot be told any more
    settings    the content of its build.json: how it was made
    created     seconds since the epoch
    """

    ref: str
    label: str
    name: str
    model: str
    form: Form
    path: Path
    size_bytes: int
    precision: str | None
    device: str | None
    parity: dict[str, Any] | None
    failing: bool
    settings: dict[str, Any]
    created: float

    @property
    def verdict(self) -> Literal["passed", "failed", "not compared"]:
        if self.failing:
            return "failed"
        return "passed" if self.parity is not None else "not compared"

    @property
    def measured(self) -> dict[str, Any]:
        """Load time, speed and memory, as `export.measure` found them; empty where nothing was measured."""
        found = (self.parity or {}).get("measured")
        return found if isinstance(found, dict) else {}


def list_builds(workspace: Workspace) -> list[Build]:
    """Every complete build, newest first; those that cannot be loaded any more, too, so that they can be deleted."""
    found = [_build(folder, workspace) for folder in _folders(workspace) if (folder / MANIFEST).is_file()]
    return sorted(found, key=lambda build: (-build.created, build.ref))


def find(name: str, workspace: Workspace) -> Build:
    """The build that `name` names: its reference, its label or its path. Raises `UserError` when there is none."""
    wanted = name.strip().rstrip("/")
    path = Path(wanted).expanduser().absolute()
    known = list_builds(workspace)
    for build in known:
        if wanted in (build.ref, build.label) or path == build.path:
            return build
    names = ", ".join(build.label for build in known) or "none yet; make one with: phi3tune export MODEL"
    raise UserError(f"there is no build {name[:200]!r}; builds: {names}")


def delete(build: Build, workspace: Workspace, *, pool: Pool | None = None) -> Path:
    """Move a build to the trash and return its place there.

    Raises `UserError` while a job uses it, an adapter stands on it, or a process has it loaded; `pool` is that of the
    caller, where it is unloaded first.
    """
    users = [job.id for job in jobs.active(workspace) if _concerns(job.folder, build)]
    if users:
        raise UserError(f"{build.label} is in use by {', '.join(users)}; wait for it, or stop it first")
    resting = [ref.label for ref in models.list_models(workspace) if ref.adapter is not None and ref.base == build.path]
    if resting:
        raise UserError(f"{build.label} is the base of {', '.join(resting)}; delete those first")
    if pool is not None and not pool.unload(models.resolve(build.ref, workspace, download=False)):
        raise UserError(f"{build.label} is answering just now; wait for it, or stop it first")
    if holders := system.processes_reading(build.path):
        raise UserError(
            f"{build.label} is loaded by process {', '.join(map(str, holders))}; close that chat or endpoint first"
        )
    return discard(build.path, archive_name(build).removesuffix(".zip"), workspace)


def archive_name(build: Build) -> str:
    """What a zip file of the build is called."""
    return f"{slug(build.model)}-{build.name}.zip"


def archive(
    build: Build, workspace: Workspace, out: Path, *, progress: Callable[[int, int], None] = lambda done, total: None
) -> Path:
    """Write a build into the new zip file `out`, complete or absent: the files that `export.push` would publish.

    `progress(bytes so far, bytes in all)` is called on the way; what it raises gives the archive up.
    Raises `UserError` when a file of the build was altered, `out` exists, or its disk is full.
    """
    from phi3tune.export.public import public_files

    models.verify_folder(build.path, build.label, ours=True)
    files = public_files(build.path, workspace)
    root = archive_name(build).removesuffix(".zip")
    done, total = 0, sum(path.stat().st_size for path in files.values() if isinstance(path, Path))
    with new_file(out, need=build.size_bytes) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as pack:
        for name, content in files.items():
            if isinstance(content, bytes):
                pack.writestr(f"{root}/{name}", content)
                continue
            entry = zipfile.ZipInfo.from_file(content, f"{root}/{name}", strict_timestamps=False)
            with content.open("rb") as source, pack.open(entry, "w") as target:
                while chunk := source.read(_CHUNK):
                    target.write(chunk)
                    done += len(chunk)
                    progress(done, total)
    return out


def _folders(workspace: Workspace) -> Iterator[Path]:
    homes = [folder for folder in workspace.run_folders() if folder.is_dir()]
    others = workspace.exports / "models"
    homes += sorted(folder for folder in others.iterdir() if folder.is_dir()) if others.is_dir() else []
    for home in homes:
        # A run that trained all weights has them there, and nowhere else: they are no build.
        if (home / "merged").is_dir() and not _is_result(home, workspace):
            yield home / "merged"
        if (home / "onnx").is_dir():
            yield from sorted(path for path in (home / "onnx").iterdir() if path.is_dir() and path.name[0] != ".")


def _is_result(home: Path, workspace: Workspace) -> bool:
    return home.parent == workspace.runs and not (home / "adapter").is_dir()


def _build(folder: Path, workspace: Workspace) -> Build:
    settings, parity = _record(folder / BUILD) or {}, _record(folder / PARITY)
    home = folder.parent if folder.name == "merged" else folder.parent.parent
    of_run = home.parent == workspace.runs
    part = folder.relative_to(home).as_posix()
    label = f"{home.name}/{part}"
    # A proof that cannot be read proves nothing.
    failing = (folder / PARITY).is_file() and (parity is None or parity.get("passed") is not True)
    precision = settings.get("precision") or (parity or {}).get("precision")
    return Build(
        ref=label if of_run else models.own_name(folder, workspace),
        label=label,
        name=folder.name,
        model=str(settings.get("made_from") or home.name),
        form=_form(folder),
        path=folder,
        size_bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        precision=precision,
        device=settings.get("device") or (None if folder.name == "merged" else "cpu"),
        parity=parity,
        failing=failing,
        settings=settings,
        created=(folder / MANIFEST).stat().st_mtime,
    )


def _form(folder: Path) -> Form:
    if (folder / "genai_config.json").is_file():
        return "onnx"
    if (folder / PORTABLE).is_file():
        return "portable-onnx"
    return "onnx-adapter" if any(folder.glob("*.onnx_adapter")) else "merged"


def _record(path: Path) -> dict[str, Any] | None:
    """A small file of a build; None where it is not there or damaged, which loading the build will tell."""
    try:
        return read_json(path) if path.is_file() else None
    except UserError:
        return None


def _concerns(job: Path, build: Build) -> bool:
    """Whether a running or waiting job reads this build, or is about to replace it."""
    config = jobs.read_config(job)
    if isinstance(config, EvalConfig):
        return bool({build.ref, build.label, str(build.path)} & set(config.models))
    if isinstance(config, TrainConfig):
        return config.model in (build.ref, str(build.path))
    return isinstance(config, ExportConfig) and config.model in (build.model, build.ref.partition("/")[0], build.ref)


def as_json(build: Build) -> dict[str, Any]:
    """A build as the command line prints it."""
    return json.loads(json.dumps({**build.__dict__, "verdict": build.verdict}, default=str))  # type: ignore[no-any-return]
