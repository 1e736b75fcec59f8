"""Where things live on disk, and how they get there whole.

Every artefact is written to a temporary sibling, synced, hashed into `manifest.json` and renamed:
it is complete or it is absent.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phi3tune import system
from phi3tune.errors import UserError
from phi3tune.system import fsync_path

PACKAGE = Path(__file__).resolve().parent
NANO = PACKAGE / "assets" / "phi3-nano"
# Installed, the chats lie in the package: a folder `datasets` beside it would hide Hugging Face's.
BUNDLED_DATASETS = PACKAGE / "bundled" if (PACKAGE / "bundled").is_dir() else PACKAGE.parent / "datasets"
MANIFEST = "manifest.json"
DATABASE = "phi3tune.db"
SHARED = "PHI3TUNE_SHARED"
MANIFEST_SCHEMA = 1

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DEVICE_NAMES = {"con", "prn", "aux", "nul", *(f"{d}{n}" for d in ("com", "lpt") for n in range(1, 10))}
_TEMPORARY = ".tmp-"
_REPLACED = f"{_TEMPORARY}old-"


def check_name(name: str, what: str = "run name") -> str:
    """Return `name` when it is safe as a folder name on every system; raise `UserError` otherwise."""
    if not _NAME.fullmatch(name) or ".." in name or name.endswith(".") or name.split(".")[0].lower() in _DEVICE_NAMES:
        raise UserError(
            f"{what} {name[:80]!r} is not accepted: use 1 to 64 letters, digits, '.', '_' or '-', "
            "starting with a letter or digit, without '..'"
        )
    return name


def slug(text: str) -> str:
    """A folder-safe short form of any text, for names that people did not choose."""
    cleaned = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40].strip("-")
    return cleaned or "data"


@dataclass(frozen=True)
class Workspace:
    """The folder tree of `$PHI3TUNE_HOME`. Folders are made when something is first written.

    shared  of a visitor of a hosted app: the folder that holds the workspaces of all visitors, whose jobs share one
            queue; None for the workspace of the person at the machine
    """

    root: Path
    shared: Path | None = None

    @classmethod
    def current(cls) -> Workspace:
        """The workspace of `$PHI3TUNE_HOME`; a visitor's where `$PHI3TUNE_SHARED` names the folder of all visitors."""
        shared = os.environ.get(SHARED)
        root = Path(os.environ.get("PHI3TUNE_HOME", "workspace")).absolute()
        return cls(root, Path(shared).absolute() if shared else None)

    def here(self) -> Workspace:
        """The workspace whose `root` stays what it is now: what a thread or a cache may be given."""
        return self

    @property
    def queue_root(self) -> Path:
        """The folder that holds every job of the queue."""
        return self.shared or self.root

    def owner_of(self, folder: Path) -> Workspace:
        """The workspace that a job of the queue belongs to."""
        if self.shared is None:
            return self
        return Workspace(visitors(self.shared) / folder.relative_to(visitors(self.shared)).parts[0], self.shared)

    def all_of_queue(self) -> list[Workspace]:
        """The workspaces whose jobs share the queue of this one."""
        return [self] if self.shared is None else every_visitor(self.shared)

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def datasets(self) -> Path:
        return self.root / "datasets"

    @property
    def evals(self) -> Path:
        """Evaluations in which no run takes part."""
        return self.root / "evals"

    @property
    def exports(self) -> Path:
        """Job folders of exports, and the builds of models that are not runs."""
        return self.root / "exports"

    @property
    def downloads(self) -> Path:
        """Job folders of downloads; the models go into the Hub client's cache."""
        return self.root / "downloads"

    @property
    def trash(self) -> Path:
        return self.root / "trash"

    @property
    def database(self) -> Path:
        """API keys, ratings and votes, and the queue of somebody who shares it with nobody."""
        return self._state_of(self.root) / DATABASE

    @property
    def queue_database(self) -> Path:
        return self._state_of(self.queue_root) / DATABASE

    def _state_of(self, root: Path) -> Path:
        """Where the databases of `root` lie: there, or in the same place below `$PHI3TUNE_STATE`."""
        state = os.environ.get("PHI3TUNE_STATE")
        return Path(state).absolute() / root.relative_to(self.queue_root) if state else root

    def run(self, run_id: str) -> Path:
        """The folder of an existing run; `UserError` when there is none of that name."""
        folder = self.runs / check_name(run_id, "run")
        if not is_run(folder):
            known = ", ".join(sorted(p.name for p in self.run_folders())) or "none yet"
            raise UserError(f"run {run_id!r} does not exist in {self.runs}; runs: {known}")
        return folder

    def run_folders(self) -> list[Path]:
        """Folders of all runs, oldest first."""
        if not self.runs.is_dir():
            return []
        found = [p for p in self.runs.iterdir() if is_run(p)]
        return sorted(found, key=lambda p: ((p / "run.yaml").stat().st_mtime_ns, p.name))


def visitors(shared: Path) -> Path:
    """The folder of the visitors' workspaces in that of a hosted app."""
    return shared / "visitors"


def every_visitor(shared: Path) -> list[Workspace]:
    """The workspaces of all visitors who have work there."""
    folder = visitors(shared)
    found = sorted(path for path in folder.iterdir() if path.name[0] != ".") if folder.is_dir() else []
    return [Workspace(path, shared) for path in found]


def is_run(folder: Path) -> bool:
    return (folder / "run.yaml").is_file()


def inside(path: Path, root: Path) -> bool:
    """True when `path`, links followed, lies in `root`."""
    return path.resolve().is_relative_to(root.resolve())


def write_text(path: Path, text: str, *, sync: bool = True) -> None:
    """Replace a file in one step; readers see the old or the new text, never a part.

    Without `sync` the text may be lost when the machine loses power, but not when the process dies.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}{_TEMPORARY}{uuid.uuid4().hex[:8]}")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
            if sync:
                stream.flush()
                os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def claim_folder(parent: Path, wanted: str | None, base: str, files: Mapping[str, str]) -> Path:
    """Make a folder that already holds `files`: `wanted`, or the first free `base-N`.

    It appears with its files in one step; of several callers for one name, one gets it.
    Raises `UserError` when `wanted` exists.
    """
    if wanted is not None:
        check_name(wanted)
    parent.mkdir(parents=True, exist_ok=True)
    temporary = parent / f".new{_TEMPORARY}{os.getpid()}-{uuid.uuid4().hex[:6]}"
    temporary.mkdir()
    try:
        for name, text in files.items():
            write_text(temporary / name, text)
        number = 1
        while True:
            folder = parent / (wanted or f"{slug(base)}-{number}")
            try:
                temporary.rename(folder)
            except OSError as error:
                if (
                    error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EACCES)
                    or not folder.exists()
                ):
                    raise
                if wanted is not None:
                    raise UserError(
                        f"{wanted!r} exists already in {parent}; choose another --name or delete it first"
                    ) from None
                number += 1
                continue
            fsync_path(parent)
            return folder
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def new_folder(final: Path, hashes: Mapping[str, str] | None = None) -> Iterator[Path]:
    """Yield an empty sibling of `final`; on success hash, sync and rename it there.

    An older `final` is replaced only after the new one is complete. On an error, nothing is left. `hashes` are those
    of `write_manifest`, which may be filled while the folder is.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f".{final.name}{_TEMPORARY}{os.getpid()}-{uuid.uuid4().hex[:6]}")
    temporary.mkdir()
    try:
        yield temporary
        write_manifest(temporary, hashes)
        if final.exists():
            old = final.with_name(f".{final.name}{_REPLACED}{uuid.uuid4().hex[:6]}")
            final.rename(old)
            temporary.rename(final)
            shutil.rmtree(old, ignore_errors=True)
        else:
            temporary.rename(final)
        fsync_path(final.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def new_file(final: Path, *, need: int) -> Iterator[Path]:
    """Yield the path of a temporary sibling of `final` to write; on success sync and rename it there.

    Raises `UserError` when `final` exists, or its disk has less than `need` bytes free.
    """
    if final.exists():
        raise UserError(f"{final} exists already; choose another file")
    final.parent.mkdir(parents=True, exist_ok=True)
    if (free := system.disk_free(final.parent)) < need:
        raise UserError(
            f"the disk of {final} has {free / 1e6:,.0f} MB free, the archive needs up to {need / 1e6:,.0f} MB"
        )
    temporary = final.with_name(f".{final.name}{_TEMPORARY}{uuid.uuid4().hex[:8]}")
    try:
        yield temporary
        fsync_path(temporary)
        temporary.rename(final)
        fsync_path(final.parent)
    finally:
        temporary.unlink(missing_ok=True)


def discard(path: Path, name: str, workspace: Workspace) -> Path:
    """Move a file or folder to the trash, under its name and the time; returns its place there."""
    workspace.trash.mkdir(parents=True, exist_ok=True)
    place = workspace.trash / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() % 1_000_000:06d}"
    shutil.move(path, place)
    return place


def sweep_temporary(folder: Path) -> None:
    """Remove what an interrupted writer left in `folder`, and put back what it was about to replace.

    The caller holds the folder's lock.
    """
    if not folder.is_dir():
        return
    for old in folder.rglob(f".*{_REPLACED}*"):
        # Killed between the two renames of `new_folder`: the older one goes back to its place.
        final = old.with_name(old.name.removeprefix(".").partition(_REPLACED)[0])
        if not final.exists():
            old.rename(final)
    for leftover in folder.rglob(f".*{_TEMPORARY}*"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def file_hash(path: Path) -> str:
    """sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_manifest(folder: Path, hashes: Mapping[str, str] | None = None) -> None:
    """Write `manifest.json`, last, with size and sha256 of every file below `folder`.

    `hashes` are the sha256 of files that were hashed as they were written, by their path in the folder.
    """
    known = hashes or {}
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST):
        fsync_path(path)
        name = path.relative_to(folder).as_posix()
        files[name] = {"bytes": path.stat().st_size, "sha256": known.get(name) or file_hash(path)}
    write_json(folder / MANIFEST, {"schema": MANIFEST_SCHEMA, "files": files})
    fsync_path(folder)


def manifest_problem(folder: Path) -> str | None:
    """Why the folder cannot be trusted (no manifest, a missing or altered file), or None."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files = manifest["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return "it has no readable manifest, so it was never completed"
    if manifest.get("schema") != MANIFEST_SCHEMA:
        return f"its manifest has schema {manifest.get('schema')}, this version reads {MANIFEST_SCHEMA}"
    for name, entry in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != entry["bytes"] or file_hash(path) != entry["sha256"]:
            return f"{name} was altered after it was written"
    return None
