"""A finished run as one file to hand on: `run.zip`, and back into a workspace.

An archive holds the run's settings, records and events, its adapter (or its whole weights where there is none) and its
evaluations: JSON, YAML, safetensors and tokenizer files, each with its sha256 in `archive.json`. It never holds a
pickle: checkpoints stay behind, so an imported run can be continued and not resumed. Base model and dataset are not in
it. An archive may come from a stranger: nothing of it is used before every name, size and hash is checked.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import shutil
import stat
import uuid
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from phi3tune import hosted, jobs, system
from phi3tune.about import ABOUT, read_about
from phi3tune.config import TrainConfig, to_yaml
from phi3tune.engines import models
from phi3tune.engines.folders import read_json
from phi3tune.errors import UserError
from phi3tune.events import FINAL
from phi3tune.jobs.folder import Job
from phi3tune.paths import Workspace, check_name, file_hash, manifest_problem, new_file, write_json, write_text

INDEX = "archive.json"
SCHEMA = 1
WEIGHTS = ("adapter", "merged")
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
_ACCEPTED = re.compile(
    rf"(run\.yaml|job\.json|status\.json|dataset\.json|model\.json|about\.json|events\.jsonl"
    rf"|(adapter|merged)/{_NAME}\.(safetensors|json|jinja|model)"
    rf"|eval/{_NAME}/(job\.json|status\.json|report\.json|events\.jsonl|rows\.jsonl))"
)
_REQUIRED = {"run.yaml", jobs.JOB, jobs.STATUS}
MAX_FILES = 10_000
MAX_TEXT_BYTES = 512 * 2**20  # of any file but weights
MAX_RATIO = 200  # unpacked over packed; JSON packs 5 to 30 times
_CHUNK = 2**20


def export_run(name: str, workspace: Workspace, out: Path) -> Path:
    """Write a run into the new file `out`, complete or absent.

    Raises `UserError` when the run has no result or still works, when `out` exists, or when the disk is full.
    """
    folder = workspace.run(name)
    job = jobs.view(folder)
    weights = next((part for part in WEIGHTS if (folder / part).is_dir()), None)
    if job.active or weights is None:
        raise UserError(f"run {name} is {job.state} and has no result to export; wait for it, or resume it")
    found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    left_out = next(part for part in WEIGHTS if part != weights)
    chosen = {n: p for n, p in found.items() if _ACCEPTED.fullmatch(n) and not n.startswith(f"{left_out}/")}
    need = sum(path.stat().st_size for path in chosen.values())
    with new_file(out, need=need) as temporary, zipfile.ZipFile(temporary, "x") as archive:
        for entry, path in chosen.items():
            # Weights are noise to a packer.
            packed = zipfile.ZIP_STORED if path.suffix == ".safetensors" else zipfile.ZIP_DEFLATED
            archive.write(path, entry, packed)
        files = {n: {"bytes": p.stat().st_size, "sha256": file_hash(p)} for n, p in chosen.items()}
        archive.writestr(INDEX, json.dumps({"schema": SCHEMA, "run": name, "files": files}, indent=1))
    return out


def import_run(path: Path, workspace: Workspace, *, model: str | None = None) -> str:
    """Take a run out of an archive into the workspace, complete or absent; returns its name, made free with a number.

    `model` names the run's base on this machine when it is not where the archive says; it must be the same, by hash.
    Raises `UserError` when the file is no sound archive, holds anything else than it should, or the disk is full.
    """
    hosted.refuse_visitor(workspace, "an archive of a run made elsewhere")
    try:
        with zipfile.ZipFile(path) as archive, _new_run(workspace) as folder:
            index = _index(archive)
            _check(archive, index["files"], system.disk_free(workspace.runs))
            for name, entry in index["files"].items():
                _extract(archive, name, entry, folder / name)
            config = _settle(folder)
            if model is not None:
                _rebase(folder, config, model, workspace)
            return _place(folder, workspace, index["run"])
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; name a file that `phi3tune runs export` made") from None
    except (zipfile.BadZipFile, NotImplementedError, OSError, RuntimeError, EOFError) as error:
        raise UserError(f"{path} cannot be read as an archive of a run: {' '.join(str(error).split())[:200]}") from None


def _index(archive: zipfile.ZipFile) -> dict[str, Any]:
    """`archive.json`, its shape checked."""
    problem = UserError(f"{archive.filename} is no archive of a run: it has no readable {INDEX}")
    try:
        info = archive.getinfo(INDEX)
        if info.file_size > 16 * _CHUNK:
            raise problem
        index = json.loads(archive.read(info))
        files, run = index["files"], index["run"]
        sound = all(isinstance(f["bytes"], int) and isinstance(f["sha256"], str) for f in files.values())
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        raise problem from None
    if not sound or not isinstance(run, str):
        raise problem
    if index.get("schema") != SCHEMA:
        raise UserError(f"{archive.filename} has schema {index.get('schema')}, this version reads {SCHEMA}")
    check_name(run)
    return {"files": files, "run": run}


def _check(archive: zipfile.ZipFile, files: dict[str, Any], free: int) -> None:
    """Every entry by its header: name, kind, size. Raises `UserError` for the first that should not be there."""

    def refuse(name: str, why: str) -> UserError:
        return UserError(f"{archive.filename} is refused: {name[:80]!r} {why}")

    infos = archive.infolist()
    if len(infos) > MAX_FILES:
        raise UserError(f"{archive.filename} is refused: it holds {len(infos):,} files, more than {MAX_FILES:,}")
    names = [info.filename for info in infos]
    for info in infos:
        kind = stat.S_IFMT(info.external_attr >> 16)  # 0: the archive does not tell
        if info.filename == INDEX:
            continue
        if not _ACCEPTED.fullmatch(info.filename) or ".." in info.filename:
            raise refuse(info.filename, "is no file that a run consists of")
        if info.flag_bits & 1 or kind not in (0, stat.S_IFREG):
            raise refuse(info.filename, "is encrypted or no plain file")
        weights = info.filename.endswith(".safetensors")
        if not weights and info.file_size > MAX_TEXT_BYTES:
            raise refuse(info.filename, f"would unpack to {info.file_size:,} bytes")
        if info.file_size > _CHUNK and info.file_size > MAX_RATIO * info.compress_size:
            raise refuse(info.filename, f"would unpack to more than {MAX_RATIO} times its size")
    if len(set(names)) != len(names) or set(names) != {*files, INDEX}:
        raise UserError(f"{archive.filename} is refused: its files are not those that its {INDEX} lists")
    if missing := sorted(_REQUIRED - set(names)):
        raise UserError(f"{archive.filename} is refused: {', '.join(missing)} is missing")
    total = sum(info.file_size for info in infos)
    if total > free:
        raise UserError(f"the run needs {total / 1e6:,.0f} MB of disk, {free / 1e6:,.0f} MB are free: make room first")


def _extract(archive: zipfile.ZipFile, name: str, entry: dict[str, Any], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with archive.open(name) as source, target.open("xb") as out:
        while chunk := source.read(_CHUNK):
            size += len(chunk)
            if size > entry["bytes"]:
                break
            digest.update(chunk)
            out.write(chunk)
        out.flush()
        os.fsync(out.fileno())
    if size != entry["bytes"] or digest.hexdigest() != entry["sha256"]:
        raise UserError(f"{archive.filename} is refused: {name} was altered after it was written")


def _settle(folder: Path) -> TrainConfig:
    """Read every record as this program writes it, and write it anew; `UserError` when the run is not sound."""
    try:
        config, status = jobs.read_config(folder), jobs.read_status(folder)
        evaluations = [jobs.read_status(found.parent) for found in folder.glob(f"eval/*/{jobs.STATUS}")]
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        detail = " ".join(str(error).split())[:200]
        raise UserError(f"the archive is refused: its records cannot be read: {detail}") from None
    if not isinstance(config, TrainConfig) or any(s.state not in FINAL for s in (status, *evaluations)):
        raise UserError("the archive is refused: it holds no finished training run")
    for part in WEIGHTS:
        if (folder / part).is_dir() and (problem := manifest_problem(folder / part)):
            raise UserError(f"the archive is refused: {part} is not sound: {problem}")
    if not any((folder / part).is_dir() for part in WEIGHTS):
        raise UserError("the archive is refused: the run in it has no result")
    _write_config(folder, config)
    write_text(folder / ABOUT, read_about(folder).model_dump_json(indent=1))
    # Without its checkpoints it cannot be resumed; its worker was another machine's.
    jobs.write_status(folder, status.model_copy(update={"kind": "train", "pid": None, "resume_step": None}))
    return config


def _rebase(folder: Path, config: TrainConfig, model: str, workspace: Workspace) -> None:
    """Let the run stand on `model`; `UserError` when that is not what it was trained on."""
    ref = models.resolve(model, workspace)
    base = models.whole_weights(ref, workspace)
    record = folder / models.MODEL_RECORD
    if record.is_file():
        begun_with = read_json(record)
        files = {name: entry for name, entry in begun_with.get("files", {}).items() if "/" not in name}
        wrong = [n for n, f in files.items() if not (base / n).is_file() or file_hash(base / n) != f["sha256"]]
        if wrong:
            raise UserError(f"{model} is not the base of this run: {', '.join(wrong)} differ; name that model's folder")
        write_json(record, {**begun_with, "model": ref.ref, "base": ref.ref})
    _write_config(folder, config.model_copy(update={"model": ref.ref}))


def _write_config(folder: Path, config: TrainConfig) -> None:
    write_text(folder / "run.yaml", to_yaml(config))
    write_text(folder / jobs.JOB, Job("train", config).to_json())


def _place(folder: Path, workspace: Workspace, wanted: str) -> str:
    """Rename the run to its name, or to the first free one after it."""
    check_name(wanted)
    for number in itertools.count(1):
        name = wanted if number == 1 else f"{wanted[:58]}-{number}"
        target = workspace.runs / name
        if target.exists():
            continue
        status = jobs.read_status(folder)
        jobs.write_status(folder, status.model_copy(update={"result": {**status.result, "run": name}}))
        try:
            folder.rename(target)
        except OSError:
            if target.exists():  # somebody was faster
                continue
            raise
        system.fsync_path(workspace.runs)
        return name
    raise AssertionError("unreachable")


@contextmanager
def _new_run(workspace: Workspace) -> Iterator[Path]:
    """An empty folder beside the runs, gone at the end unless it was renamed."""
    workspace.runs.mkdir(parents=True, exist_ok=True)
    folder = workspace.runs / f".import.tmp-{os.getpid()}-{uuid.uuid4().hex[:6]}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
