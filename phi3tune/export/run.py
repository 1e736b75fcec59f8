"""An export from a model's name to a build on disk, with the proof beside it."""

from __future__ import annotations

import hashlib
import math
import time
from pathlib import Path
from typing import Any

from safetensors import safe_open

from phi3tune import system
from phi3tune.config import ExportConfig
from phi3tune.engines.folders import read_json
from phi3tune.engines.models import ModelRef, buildable, verify
from phi3tune.errors import UserError
from phi3tune.events import Phase, Progress, Reporter
from phi3tune.export import adapters, card, choose, gptq, make, merge, rows
from phi3tune.export.make import Source, StoppedError, check_stop
from phi3tune.export.recipe import BUILD, BUILD_SCHEMA, Recipe
from phi3tune.paths import Workspace, slug, sweep_temporary, write_json

_MB = 1_000_000
_SPARE_BYTES = 64 * 1024**2


def export(config: ExportConfig, workspace: Workspace, reporter: Reporter, *, job_dir: Path) -> dict[str, Any]:
    """Make a build of `config.model`; an older build of the same name is replaced once the new one is whole.

    Returns `build` (its name), `model` (what resolves to it), `path`, `size_bytes`, `seconds` and `parity` (the
    content of parity.json; None for merged weights and for a device that is not here), or `{"status": "stopped"}`.
    With `auto` also `tried`: one row for every build that was made. A build that misses its limits is kept for
    inspection, with `parity["passed"]` False. Raises `UserError` for a model that cannot be built.
    """
    began = time.monotonic()
    reporter.emit(Phase(name="checking the model"))
    ref = buildable(config.model, config.format, workspace)
    verify(ref)
    if config.algorithm == "gptq":
        gptq.check_installed()
        rows.training(ref, workspace, 1)
    home = home_of(ref, workspace)
    for folder in {home, workspace.runs / ref.run if ref.run is not None else home}:
        _sweep(folder)
    try:
        result = _export(ref, config, home, workspace, reporter, job_dir)
    except StoppedError:
        return {"status": "stopped"}
    path = Path(result["path"])
    return {
        "build": path.name,
        "model": _name_of(path, ref, workspace),
        **result,
        "size_bytes": sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
        "seconds": round(time.monotonic() - began, 2),
    }


def home_of(ref: ModelRef, workspace: Workspace) -> Path:
    """The folder that holds `merged` and `onnx`: the run's, or one of its own for anything else."""
    if ref.run is not None and not ref.ref.startswith(f"{ref.run}/checkpoint-"):
        return workspace.runs / ref.run
    # Two folders may have one name; only phi3-nano's reference is a slug itself.
    unique = "" if slug(ref.ref) == ref.ref else "-" + hashlib.sha256(ref.ref.encode()).hexdigest()[:8]
    return workspace.exports / "models" / (slug(ref.label) + unique)


def _export(
    ref: ModelRef, config: ExportConfig, home: Path, workspace: Workspace, reporter: Reporter, job_dir: Path
) -> dict[str, Any]:
    """`path` and `parity` of what was made, and `tried` where several were."""
    shape = read_json(ref.base / "config.json")
    recipe = Recipe.of(config).of_width(shape["hidden_size"])
    if recipe.algorithm == "gptq":
        gptq.check_blocks(shape, recipe.block_size)
    weights = _whole_weights(ref, home, workspace, reporter)
    if config.format == "merged":
        return {"path": str(weights), "parity": None}
    path = _build_path(ref, recipe, home, workspace)
    chats, record = rows.held_out(ref, workspace, reporter)
    source = Source(ref, weights, chats, record, job_dir, workspace, reporter)
    room = recipe.bytes_needed(_parameters(weights))
    _need_disk(room * (choose.AT_ONCE if config.auto else 1), path, f"the {recipe.name} build")
    if config.auto:
        return choose.best(source, config, path)
    if config.format == "onnx-adapter":
        return adapters.export(recipe, source, config, path, home_of)
    return {"path": str(path), "parity": make.build(recipe, source, config, path)}


def _build_path(ref: ModelRef, recipe: Recipe, home: Path, workspace: Workspace) -> Path:
    """Builds of a run's checkpoints lie with the run, too, so that an evaluation knows what they were trained on."""
    if ref.run is None:
        return home / "onnx" / recipe.name
    part = ref.ref.removeprefix(f"{ref.run}/")
    name = f"{recipe.name}-{part}" if part.startswith("checkpoint-") else recipe.name
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


def _whole_weights(ref: ModelRef, home: Path, workspace: Workspace, reporter: Reporter) -> Path:
    """The folder with the model's own weights, merged when it is an adapter and was not merged before."""
    if ref.adapter is None:
        return ref.base
    merged = home / "merged"
    if merge.is_current(merged, ref.adapter):
        return merged
    check_stop(reporter)
    reporter.emit(Phase(name="merging"))
    _need_disk(sum(file.stat().st_size for file in merge.weight_files(ref.base)), home, "the merged weights")
    told = 0

    def tick(done: int, total: int) -> None:
        nonlocal told
        check_stop(reporter)
        if done - told >= total // 100 or done == total:
            told = done
            reporter.emit(Progress(done=-(-done // _MB), total=-(-total // _MB), unit="MB"))

    def describe(folder: Path) -> None:
        write_json(folder / BUILD, {"schema": BUILD_SCHEMA, "format": "merged", "made_from": ref.ref})
        card.write(folder, workspace, name=merged.name)

    merge.merge(ref.base, ref.adapter, merged, tick, describe)
    return merged


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
