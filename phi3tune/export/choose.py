"""Several int4 builds, each compared and measured, and the one that answers most like the model kept."""

from __future__ import annotations

import math
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from phi3tune.config import ExportConfig
from phi3tune.engines.folders import read_json
from phi3tune.errors import UserError
from phi3tune.events import Phase
from phi3tune.export import gptq, make, rows
from phi3tune.export.make import Source
from phi3tune.export.recipe import Recipe
from phi3tune.paths import new_folder, write_json

AUTO = "auto.json"
AUTO_SCHEMA = 1
_PROOF_BYTES = 50_000  # at most, of parity.json, its page, the card, auto.json and the manifest
# From the finest to the coarsest: how weights are rounded, weights per scale, the sensitive ones in int8.
_CHOICES: tuple[tuple[Any, int, bool], ...] = (
    ("rtn", 16, True),
    ("rtn", 32, True),
    ("k_quant", 32, True),
    ("rtn", 128, True),
    ("rtn", 32, False),
    ("rtn", 128, False),
)
_CALIBRATED: tuple[tuple[Any, int, bool], ...] = (("gptq", 32, True), ("gptq", 128, True))
_SHOWN = ("kl_mean", "kl_p99", "top1_agreement", "perplexity_ratio", "greedy_match", "passed")
AT_ONCE = len(_CHOICES) + len(_CALIBRATED)


def candidates(config: ExportConfig, shape: dict[str, Any], *, calibrated: bool) -> list[Recipe]:
    """The builds that are tried for a model with this config.json; those of gptq only where it can be `calibrated`."""
    base = Recipe.of(config)
    possible = [choice for choice in _CALIBRATED if calibrated and gptq.fits(shape, choice[1])]
    return [
        replace(base, algorithm=algorithm, block_size=block_size, mixed=mixed)
        for algorithm, block_size, mixed in (*_CHOICES, *possible)
    ]


def best(source: Source, config: ExportConfig, path: Path) -> dict[str, Any]:
    """Make, compare and measure every candidate, and keep the best in `path` with the table of all in auto.json.

    The best one has the smallest mean KL among those that keep to `max_size` and `min_speed`; a build that is within
    its parity limits is better than one that is not. Returns `path`, `parity` and `tried`. Raises `UserError`, with
    what was found, when no build keeps to the limits; nothing is kept then.
    """
    if not make.runs_here(config.device):
        raise UserError(
            f"--auto measures builds, and one for {config.device} cannot run on this machine; leave out --auto, or "
            "run it where the build will run"
        )
    shape = read_json(source.weights / "config.json")
    recipes = candidates(config, shape, calibrated=_can_calibrate(source))
    source.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".auto.tmp-", dir=source.scratch) as name:
        folders = {Path(name) / _label(recipe): recipe for recipe in recipes}
        tried = _try(folders, source, config)
        kept = [row for row in tried if row["within"]]
        if not kept:
            raise UserError(_nothing(tried, config))
        chosen = min(kept, key=lambda row: (not row["passed"], math.inf if row["kl_mean"] is None else row["kl_mean"]))
        chosen["chosen"] = True
        table = [{key: value for key, value in row.items() if key != "report"} for row in tried]
        limits = {"max_size": config.max_size, "min_speed": config.min_speed}
        made = Path(name) / chosen["build"]
        with new_folder(path) as folder:
            for file in made.iterdir():
                shutil.move(file, folder / file.name)
            make.finish(folder, chosen["report"], source, path.name)
            write_json(folder / AUTO, {"schema": AUTO_SCHEMA, "limits": limits, "tried": table})
    make.say(chosen["report"], Recipe.of(config), path, source.reporter)
    return {"path": str(path), "parity": chosen["report"], "tried": table}


def _can_calibrate(source: Source) -> bool:
    if not gptq.installed():
        return False
    try:
        return bool(rows.training(source.ref, source.workspace, 1))
    except UserError:  # no run, or its data is gone: the other builds can still be made
        return False


def _try(folders: dict[Path, Recipe], source: Source, config: ExportConfig) -> list[dict[str, Any]]:
    """One row for each build. They are all made in this process, and the reference is loaded once for all."""
    table: dict[Path, dict[str, Any]] = {}
    for folder, recipe in folders.items():
        source.reporter.emit(Phase(name=f"trying {folder.name}"))
        folder.mkdir()
        make.write(recipe, source, folder, calibration_rows=config.calibration_rows)
        size = sum(file.stat().st_size for file in folder.iterdir())
        within = config.max_size is None or size + _PROOF_BYTES <= config.max_size * 1e6
        table[folder] = {
            "build": folder.name,
            "algorithm": recipe.algorithm,
            "block_size": recipe.block_size,
            "mixed": recipe.mixed,
            "size_bytes": size,
            "within": within,
            "chosen": False,
        }
        if not within:  # room for the others
            shutil.rmtree(folder)
    left = [folder for folder, row in table.items() if row["within"]]
    for folder in left:
        figures = make.measured(make.build_ref(folder, source.weights), source)
        table[folder] |= {"report": {"measured": figures}, **_speeds(figures)}
        speed = figures["decode_tokens_per_second"]
        table[folder]["within"] = config.min_speed is None or (speed is not None and speed >= config.min_speed)
    left = [folder for folder in left if table[folder]["within"]]
    if not left:
        return list(table.values())
    with make.reference(source.weights) as merged:
        for folder in left:
            ref = make.build_ref(folder, source.weights)
            report = make.compare(merged, ref, folders[folder], source, config)
            table[folder]["report"] = {**report, **table[folder]["report"]}
            table[folder] |= {key: report[key] for key in _SHOWN}
    return list(table.values())


def _speeds(figures: dict[str, Any]) -> dict[str, Any]:
    return {key: figures[key] for key in ("prefill_tokens_per_second", "decode_tokens_per_second", "peak_memory_bytes")}


def _label(recipe: Recipe) -> str:
    return f"{recipe.algorithm}-{recipe.block_size}{'-mixed' if recipe.mixed else ''}"


def _nothing(tried: list[dict[str, Any]], config: ExportConfig) -> str:
    smallest = min(row["size_bytes"] for row in tried) / 1e6
    speeds = [row["decode_tokens_per_second"] for row in tried if row.get("decode_tokens_per_second")]
    limits = [f"--max-size {config.max_size:g}" if config.max_size is not None else None]
    limits += [f"--min-speed {config.min_speed:g}" if config.min_speed is not None else None]
    found = f"the smallest of {len(tried)} has {smallest:,.1f} MB"
    if speeds:
        found += f", and the fastest that is small enough decodes {max(speeds):,.1f} tokens per second"
    return f"no int4 build keeps to {' and '.join(filter(None, limits))}: {found}; loosen the limits or leave them out"
