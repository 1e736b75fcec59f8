"""One ONNX build: its files, and the proof that it answers like the weights that it was made from."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from phi3tune.config import BuildDevice, ExportConfig
from phi3tune.data import Conversation
from phi3tune.engines import open_engine
from phi3tune.engines.base import Engine
from phi3tune.engines.classifier import Classifier
from phi3tune.engines.classifier_torch import TorchClassifier
from phi3tune.engines.decoding import rope_switch
from phi3tune.engines.folders import folder_kind, read_json, task_of
from phi3tune.engines.models import Kind, ModelRef
from phi3tune.engines.torch_engine import TorchEngine
from phi3tune.evaluation.scoring import threads_for
from phi3tune.events import Notice, Phase, Reporter
from phi3tune.export import card, gptq, measure, onnx, parity, portable, rows
from phi3tune.export.recipe import BUILD, Recipe
from phi3tune.paths import Workspace, new_folder, write_json


class StoppedError(Exception):
    """The user stopped the job; folders being written are dropped on the way out."""


def check_stop(reporter: Reporter) -> None:
    """Raise `StoppedError` when the user asked the job to stop."""
    if reporter.stop_requested():
        raise StoppedError


@dataclass(frozen=True)
class Source:
    """What builds are made from, and what they are compared on.

    ref      the model that was named
    weights  folder with its whole weights
    chats    held-out conversations, from `data`
    scratch  folder for temporary files, which may be as large as the weights
    """

    ref: ModelRef
    weights: Path
    chats: list[Conversation]
    data: dict[str, str]
    scratch: Path
    workspace: Workspace
    reporter: Reporter


def build(
    recipe: Recipe,
    source: Source,
    config: ExportConfig,
    path: Path,
    change: Callable[[Path], None] | None = None,
) -> dict[str, Any] | None:
    """Write an ONNX build with its parity.json into the new folder `path`, and return that file's content.

    `change` is done to the build before it is compared. None where the build cannot run on this machine.
    """
    with new_folder(path) as folder:
        write(recipe, source, folder, calibration_rows=config.calibration_rows)
        if change is not None:
            change(folder)
        report = None
        if runs_here(recipe.device):
            ref = build_ref(folder, source.weights)
            with reference(source.weights) as merged:
                report = compare(merged, ref, recipe, source, config)
            report["measured"] = measured(ref, source)
        finish(folder, report, source, path.name)
    say(report, recipe, path, source.reporter)
    return report


def finish(folder: Path, report: dict[str, Any] | None, source: Source, name: str) -> None:
    """Write the proof of a build and its model card; `name` is what the folder will be called."""
    if report is not None:
        write_json(folder / parity.PARITY, report)
    card.write(folder, source.workspace, name=name)


def write(recipe: Recipe, source: Source, folder: Path, *, calibration_rows: int) -> None:
    """The files of a build and its build.json, into the existing, empty `folder`."""
    check_stop(source.reporter)
    if recipe.algorithm == "gptq":
        chats = rows.training(source.ref, source.workspace, calibration_rows)
        assert recipe.block_size is not None
        with gptq.quantised(
            source.weights,
            chats,
            source.scratch,
            source.reporter,
            block_size=recipe.block_size,
            mixed=bool(recipe.mixed),
        ) as calibrated:
            check_stop(source.reporter)
            source.reporter.emit(Phase(name="building"))
            onnx.build(calibrated, folder, scratch=source.scratch, **recipe.options())
    else:
        source.reporter.emit(Phase(name="building"))
        if recipe.form == "portable-onnx":
            portable.build(source.weights, folder, recipe.precision)
        else:
            onnx.build(source.weights, folder, scratch=source.scratch, **recipe.options())
    write_json(folder / BUILD, recipe.record(source.ref.ref))
    gc.collect()  # the builder's copy of the weights, before they are loaded again


def runs_here(device: BuildDevice) -> bool:
    """Whether builds for a device can be run, and so compared, on this machine."""
    import onnxruntime_genai as og

    available = {"cuda": og.is_cuda_available, "dml": og.is_dml_available, "webgpu": og.is_webgpu_available}
    return device == "cpu" or bool(available[device]())


@contextmanager
def reference(weights: Path) -> Iterator[Engine]:
    """The whole weights in float32, whatever the device: the measure for builds of every precision."""
    engine: Engine
    if task_of(weights) == "classification":
        whole = ModelRef(str(weights), weights.name, "torch", weights, task="classification")
        engine = TorchClassifier(whole, dtype=torch.float32, threads=threads_for(weights))
    else:
        engine = TorchEngine(weights, dtype=torch.float32, threads=threads_for(weights))
    try:
        yield engine
    finally:
        engine.close()


def build_ref(folder: Path, weights: Path, adapter: Path | None = None) -> ModelRef:
    """What opens a build that has no name yet."""
    kind: Kind = "onnxruntime" if folder_kind(folder) == "portable" else "onnxruntime-genai"
    return ModelRef(str(folder), folder.name, kind, folder, adapter, task=task_of(weights))


def compare(merged: Engine, ref: ModelRef, recipe: Recipe, source: Source, config: ExportConfig) -> dict[str, Any]:
    """How the build that `ref` opens answers beside the merged model: the content of its parity.json."""
    check_stop(source.reporter)
    source.reporter.emit(Phase(name="checking the build"))
    build = open_engine(ref, threads=threads_for(ref.base))
    chats = source.chats[: config.parity_rows]
    try:
        if isinstance(merged, Classifier) and isinstance(build, Classifier):
            report = portable.compare_labels(merged, build, chats, recipe.precision, source.reporter)
        else:
            switch = rope_switch(read_json(source.weights / "config.json"))
            report = parity.compare(
                merged,
                build,
                chats,
                recipe.precision,
                source.reporter,
                context_tokens=config.parity_tokens,
                rope_switch=switch,
            )
    finally:
        build.close()
    if report is None:
        raise StoppedError
    return {**report, "data": source.data}


def measured(ref: ModelRef, source: Source) -> dict[str, Any]:
    """Load time, speed and memory of a build, which no other model may disturb: close the reference before."""
    figures = measure.measure(ref, source.reporter, threads_for(ref.base))
    if figures is None:
        raise StoppedError
    return figures


def say(report: dict[str, Any] | None, recipe: Recipe, path: Path, reporter: Reporter) -> None:
    """Warn of a build that does not keep to its limits, or could not be compared."""
    if report is None:
        message = f"a build for {recipe.device} cannot run on this machine, so it was not compared with its model"
        reporter.emit(Notice(code="not_compared", message=message, action="evaluate it where it will run"))
    elif not report["passed"]:
        message = f"the {recipe.name} build does not behave like its model; see {path / parity.PARITY}"
        action = "use a higher precision" if recipe.precision != "fp32" else "do not use this build"
        reporter.emit(Notice(code="parity_failed", message=message, action=action))
