"""An export from a model's name to a build on disk, with the proof beside it."""

from __future__ import annotations

import gc
import hashlib
import math
import time
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from phi3tune import data, system
from phi3tune.config import DatasetConfig, ExportConfig, Part, Precision
from phi3tune.data import Conversation
from phi3tune.engines import open_engine
from phi3tune.engines.base import Engine
from phi3tune.engines.classifier import Classifier
from phi3tune.engines.classifier_torch import TorchClassifier
from phi3tune.engines.folders import folder_kind, read_json, task_of
from phi3tune.engines.models import Kind, ModelRef, buildable, verify
from phi3tune.engines.torch_engine import TorchEngine
from phi3tune.errors import UserError
from phi3tune.evaluation.scoring import threads_for
from phi3tune.events import Notice, Phase, Reporter
from phi3tune.export import merge, onnx, parity, portable
from phi3tune.paths import Workspace, new_folder, slug, sweep_temporary, write_json

PARITY = "parity.json"
BUNDLED = "lantern-support"
SKILLS = "skills/test.jsonl"
# Bytes that a parameter takes in a build at most: scales come on top, and some weights stay finer.
_BUILD_BYTES: dict[Precision, float] = {"int4": 1.0, "int8": 1.6, "fp32": 4.1}
_SPARE_BYTES = 64 * 1024**2


class _StoppedError(Exception):
    """The user stopped the job; folders being written are dropped on the way out."""


def export(config: ExportConfig, workspace: Workspace, reporter: Reporter, *, job_dir: Path) -> dict[str, Any]:
    """Make a build of `config.model`; an older build of the same name is replaced once the new one is whole.

    Returns `build` (its name), `model` (what resolves to it), `path`, `size_bytes`, `seconds` and `parity` (the
    content of parity.json; None for merged weights), or `{"status": "stopped"}`. A build that misses its limits is
    kept for inspection, with `parity["passed"]` False. Raises `UserError` for a model that cannot be built.
    """
    began = time.monotonic()
    reporter.emit(Phase(name="checking the model"))
    ref = buildable(config.model, config.format, workspace)
    verify(ref)
    home = home_of(ref, workspace)
    for folder in {home, workspace.runs / ref.run if ref.run is not None else home}:
        _sweep(folder)
    try:
        weights = _whole_weights(ref, home, reporter)
        path, report = weights, None
        if config.format != "merged":
            path = _build_path(ref, config, home, workspace)
            report = _build(ref, config, weights, path, workspace, reporter, job_dir)
    except _StoppedError:
        return {"status": "stopped"}
    return {
        "build": path.name,
        "model": _name_of(path, ref, workspace),
        "path": str(path),
        "size_bytes": sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
        "seconds": round(time.monotonic() - began, 2),
        "parity": report,
    }


def home_of(ref: ModelRef, workspace: Workspace) -> Path:
    """The folder that holds `merged` and `onnx`: the run's, or one of its own for anything else."""
    if ref.run is not None and not ref.ref.startswith(f"{ref.run}/checkpoint-"):
        return workspace.runs / ref.run
    # Two folders may have one name; only phi3-nano's reference is a slug itself.
    unique = "" if slug(ref.ref) == ref.ref else "-" + hashlib.sha256(ref.ref.encode()).hexdigest()[:8]
    return workspace.exports / "models" / (slug(ref.label) + unique)


def _build_path(ref: ModelRef, config: ExportConfig, home: Path, workspace: Workspace) -> Path:
    """Builds of a run's checkpoints lie with the run, too, so that an evaluation knows what they were trained on."""
    name = f"{config.precision}-portable" if config.format == "portable-onnx" else str(config.precision)
    if ref.run is None:
        return home / "onnx" / name
    part = ref.ref.removeprefix(f"{ref.run}/")
    name = f"{name}-{part}" if part.startswith("checkpoint-") else name
    return workspace.runs / ref.run / "onnx" / name


def _name_of(path: Path, ref: ModelRef, workspace: Workspace) -> str:
    """What resolves to the result."""
    if path == ref.base:
        return ref.ref
    return path.relative_to(workspace.runs).as_posix() if path.is_relative_to(workspace.runs) else str(path)


def _sweep(home: Path) -> None:
    """Remove what a killed export left, unless a run in this folder is at work."""
    if not home.is_dir():
        return
    lock = system.FolderLock(home / "run.lock")
    if lock.acquire():
        sweep_temporary(home)
        lock.release()


def _whole_weights(ref: ModelRef, home: Path, reporter: Reporter) -> Path:
    """The folder with the model's own weights, merged when it is an adapter and was not merged before."""
    if ref.adapter is None:
        return ref.base
    merged = home / "merged"
    if merge.is_current(merged, ref.adapter):
        return merged
    _check_stop(reporter)
    reporter.emit(Phase(name="merging"))
    _need_disk(sum(file.stat().st_size for file in merge.weight_files(ref.base)), home, "the merged weights")
    merge.merge(ref.base, ref.adapter, merged)
    return merged


def _build(
    ref: ModelRef,
    config: ExportConfig,
    weights: Path,
    path: Path,
    workspace: Workspace,
    reporter: Reporter,
    job_dir: Path,
) -> dict[str, Any]:
    """Write the ONNX build with its parity.json; returns that file's content."""
    precision = config.precision
    _need_disk(int(_parameters(weights) * _BUILD_BYTES[precision]), path, f"the {precision} build")
    chats, source = _held_out(ref, workspace, reporter)
    with new_folder(path) as folder:
        _check_stop(reporter)
        reporter.emit(Phase(name="building"))
        if config.format == "portable-onnx":
            portable.build(weights, folder, precision)
        else:
            onnx.build(weights, folder, precision, job_dir)
        gc.collect()  # the builder's copy of the weights, before they are loaded again
        _check_stop(reporter)
        reporter.emit(Phase(name="checking the build"))
        report = _compare(weights, folder, chats[: config.parity_rows], precision, reporter)
        report["data"] = source
        write_json(folder / PARITY, report)
    if not report["passed"]:
        message = f"the {precision} build does not behave like its model; see {path / PARITY}"
        action = "use a higher precision" if precision != "fp32" else "do not use this build"
        reporter.emit(Notice(code="parity_failed", message=message, action=action))
    return report


def _compare(
    weights: Path, folder: Path, chats: list[Conversation], precision: Precision, reporter: Reporter
) -> dict[str, Any]:
    # In float32 whatever the device: it is the measure for a build of the same precision.
    merged: Engine
    if task_of(weights) == "classification":
        whole = ModelRef(str(weights), weights.name, "torch", weights, task="classification")
        merged = TorchClassifier(whole, dtype=torch.float32, threads=threads_for(weights))
    else:
        merged = TorchEngine(weights, dtype=torch.float32, threads=threads_for(weights))
    try:
        kind: Kind = "onnxruntime" if folder_kind(folder) == "portable" else "onnxruntime-genai"
        ref = ModelRef(str(folder), precision, kind, folder, task=task_of(weights))
        build = open_engine(ref, threads=threads_for(folder))
        try:
            if isinstance(merged, Classifier) and isinstance(build, Classifier):
                report = portable.compare_labels(merged, build, chats, precision, reporter)
            else:
                report = parity.compare(merged, build, chats, precision, reporter)
        finally:
            build.close()
    finally:
        merged.close()
    if report is None:
        raise _StoppedError
    return report


def _held_out(ref: ModelRef, workspace: Workspace, reporter: Reporter) -> tuple[list[Conversation], dict[str, str]]:
    """Conversations that the model was not trained on, and where they are from.

    A run's own test part, else its validation part; the held-out skills that phi3-nano carries; for other models,
    and where a run's data is gone, bundled rows.
    """
    if ref.run is not None:
        try:
            return _rows_of_run(ref.run, workspace)
        except UserError as error:
            message = f"the build is compared on {BUNDLED} and not on the run's own rows: {error}"
            reporter.emit(Notice(code="run_rows_gone", message=message))
    skills = ref.base / SKILLS
    name, place = (SKILLS, str(skills)) if ref.run is None and skills.is_file() else (BUNDLED, BUNDLED)
    return data.load(DatasetConfig(dataset=place), workspace).parts["test"], {"dataset": name, "part": "test"}


def _rows_of_run(run: str, workspace: Workspace) -> tuple[list[Conversation], dict[str, str]]:
    record = read_json(workspace.runs / run / "dataset.json")
    # The path as it was resolved then: the name given may have been relative to another folder.
    place = record["source"] if Path(record["source"]).exists() else record["config"]["dataset"]
    dataset = data.load(DatasetConfig(**{**record["config"], "dataset": place}), workspace, saved=record)
    if dataset.sha256 != record["sha256"]:
        raise UserError(f"{dataset.source} was changed since the run")
    part: Part
    for part in ("test", "validation"):
        if dataset.parts[part]:
            return dataset.parts[part], {"dataset": dataset.name, "part": part}
    raise UserError("the run kept no row from training")


def _parameters(folder: Path) -> int:
    total = 0
    for path in merge.weight_files(folder):
        with safe_open(path, framework="pt") as file:
            total += sum(math.prod(file.get_slice(key).get_shape()) for key in file.keys())  # noqa: SIM118 - not a dict
    return total


def _need_disk(size: int, path: Path, what: str) -> None:
    need, free = size + _SPARE_BYTES, system.disk_free(path)
    if need > free:
        raise UserError(
            f"{what}: {need / system.GIB:.1f} GiB are needed and {free / system.GIB:.1f} GiB are free on the disk of "
            f"{path.parent}; make room or move the workspace with PHI3TUNE_HOME"
        )


def _check_stop(reporter: Reporter) -> None:
    if reporter.stop_requested():
        raise _StoppedError
