"""Portable builds: the plain graph behaves like its model, for chats and for labels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from phi3tune import data
from phi3tune.config import DatasetConfig, ExportConfig, parse
from phi3tune.engines import open_engine
from phi3tune.engines.base import Request, Sampling
from phi3tune.engines.classifier import Classifier, open_classifier
from phi3tune.engines.models import buildable, resolve
from phi3tune.engines.portable import context_length
from phi3tune.engines.torch_engine import TorchEngine
from phi3tune.errors import ConfigError, UserError
from phi3tune.export import export, portable
from phi3tune.paths import Workspace, manifest_problem
from tests.fake_classifiers import LABELS, classification_run, labelled, whole_classifier
from tests.fake_runs import chats, finished_run
from tests.fakes import RecordingReporter, tiny_phi3


class Built:
    """A workspace with a classification run and a chat run of a tiny Phi-3, both built; for tests that only read."""

    def __init__(self, root: Path) -> None:
        self.workspace = Workspace(root / "workspace")
        self.base = tiny_phi3(root / "base", initializer_range=0.1)
        self.rows = labelled(root / "weather.jsonl", 120)
        classification_run(self.workspace, "weather", self.base, self.rows)
        finished_run(self.workspace, "tuned", self.base, chats(root / "chats.jsonl", 40))
        self.job = root / "job"
        self.labels = {precision: self.build("weather", precision) for precision in ("fp32", "int8")}
        self.chat = self.build("tuned", "fp32")

    def build(self, model: str, precision: str) -> dict[str, Any]:
        settings = {"model": model, "format": "portable-onnx", "precision": precision, "parity_rows": 12}
        return export(parse(ExportConfig, settings), self.workspace, RecordingReporter(), job_dir=self.job)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return Built(tmp_path_factory.mktemp("portable"))


@pytest.mark.slow
def test_a_classifiers_build_gives_the_same_labels(built: Built) -> None:
    result = built.labels["fp32"]
    assert result["build"] == "fp32-portable" and result["model"] == "weather/onnx/fp32-portable"
    assert result["parity"]["passed"] and result["parity"]["same_label"] == 1.0
    assert result["parity"]["max_difference"] < 1e-5 and result["parity"]["rows"] == 12
    assert manifest_problem(Path(result["path"])) is None
    ref = resolve("weather/onnx/fp32-portable", built.workspace)
    assert (ref.kind, ref.task, ref.run) == ("onnxruntime", "classification", "weather")
    rows = data.load(DatasetConfig(dataset=str(built.rows)), built.workspace).parts["train"]
    prompts = [row.prompt_messages for row in rows]
    run, build = (open_classifier(each, threads=1) for each in (resolve("weather", built.workspace), ref))
    assert build.info.kind == "onnxruntime" and build.labels == LABELS
    for one, other in zip(run.classify(prompts), build.classify(prompts), strict=True):
        assert one["label"] == other["label"]
        assert one["scores"] == pytest.approx(other["scores"], abs=1e-5)


@pytest.mark.slow
def test_int8_is_smaller_and_near(built: Built) -> None:
    fp32, int8 = (built.labels[precision] for precision in ("fp32", "int8"))
    assert int8["size_bytes"] < fp32["size_bytes"] / 2
    assert fp32["parity"]["mean_difference"] < int8["parity"]["mean_difference"] < 0.1


@pytest.mark.slow
def test_a_chat_models_build_is_an_engine_like_the_merged_model(built: Built) -> None:
    assert built.chat["parity"]["passed"] and built.chat["parity"]["greedy_match"] == 1.0
    ref = resolve("tuned/onnx/fp32-portable", built.workspace)
    assert (ref.kind, ref.task) == ("onnxruntime", "chat")
    engine = open_engine(ref, threads=1)
    merged = TorchEngine(resolve("tuned/merged", built.workspace).base, dtype=torch.float32, threads=1)
    ids = engine.renderer.prompt([{"role": "user", "content": "What comes after 7?"}])
    ours, theirs = merged.score(ids), engine.score(ids)
    assert np.abs(ours.logprobs - theirs.logprobs).max() < 1e-4
    assert (ours.argmax == theirs.argmax).all()
    requests = [Request(ids, Sampling(max_new_tokens=6))]
    assert engine.generate(requests)[0].token_ids == merged.generate(requests)[0].token_ids
    assert next(engine.logits(ids, [0, 3])).shape == (2, engine.info.vocab_size)
    for each in (engine, merged):
        each.close()


@pytest.mark.slow
def test_a_build_without_its_labels_or_its_graph_is_refused(built: Built, tmp_path: Path) -> None:
    folder = tmp_path / "build"
    folder.mkdir()
    for file in Path(built.labels["int8"]["path"]).iterdir():
        if file.name != "manifest.json":
            (folder / file.name).write_bytes(file.read_bytes())
    (folder / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(UserError, match="cannot be loaded"):
        open_engine(resolve(str(folder), built.workspace))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "id2label": {"0": "cold", "2": "warm"}}))
    with pytest.raises(UserError, match="does not name the labels"):
        resolve(str(folder), built.workspace)


@pytest.fixture
def longrope(tmp_path: Path, tiny_model: Path) -> Path:
    config = json.loads((tiny_model / "config.json").read_text())
    rope = {"rope_type": "longrope", "original_max_position_embeddings": 32}
    (tmp_path / "config.json").write_text(json.dumps({**config, "rope_parameters": rope}))
    return tmp_path


def test_precision_follows_the_format() -> None:
    assert parse(ExportConfig, {"model": "m"}).precision == "int4"
    assert parse(ExportConfig, {"model": "m", "format": "portable-onnx"}).precision == "fp32"
    assert parse(ExportConfig, {"model": "m", "format": "portable-onnx", "precision": "int8"}).precision == "int8"
    with pytest.raises(ConfigError, match="portable-onnx takes int8 or fp32"):
        parse(ExportConfig, {"model": "m", "format": "portable-onnx", "precision": "int4"})


def test_a_longrope_graph_ends_where_its_factors_would_change(longrope: Path, tiny_model: Path) -> None:
    assert context_length(longrope) == 32
    assert context_length(tiny_model) == 512


def test_a_classifier_has_no_build_for_genai(tiny_model: Path, tmp_path: Path, workspace: Workspace) -> None:
    folder = whole_classifier(tmp_path / "classifier", tiny_model)
    with pytest.raises(UserError, match="use --format portable-onnx"):
        buildable(str(folder), "onnx", workspace)
    assert buildable(str(folder), "portable-onnx", workspace).task == "classification"


class Fixed(Classifier):
    """Gives the logits that it was made with."""

    def __init__(self, folder: Path, logits: Sequence[Sequence[float]]) -> None:
        super().__init__(folder, labels=LABELS)
        self._fixed = np.array(logits, np.float32)

    @property
    def info(self) -> Any:
        return self._info(resolve("phi3-nano", Workspace.current()), "torch", "fp32", "cpu", 0)

    def logits_of(self, prompts: Sequence[Sequence[int]]) -> np.ndarray:
        return self._fixed[: len(prompts)]

    def _logits(self, rows: Sequence[Sequence[int]]) -> np.ndarray:
        return self._fixed

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("theirs", "same", "passed"),
    [
        ([[2.0, 1.0, 0.0], [0.0, 1.0, 1.00001]], 1.0, True),  # a tie may fall either way
        ([[2.0, 1.0, 0.0], [0.0, 1.0, 1.1]], 1.0, False),  # the same label, another probability
        ([[1.0, 2.0, 0.0], [0.0, 1.0, 1.0]], 0.5, False),
        ([[float("nan")] * 3, [0.0, 1.0, 1.0]], 0.5, False),
    ],
)
def test_the_gate_sees_other_labels_and_other_probabilities(
    tiny_model: Path, theirs: list[list[float]], same: float, passed: bool
) -> None:
    rows = data.load(DatasetConfig(dataset="lantern-support"), Workspace.current()).parts["test"][:2]
    merged, build = Fixed(tiny_model, [[2.0, 1.0, 0.0], [0.0, 1.0, 1.0]]), Fixed(tiny_model, theirs)
    found = portable.compare_labels(merged, build, rows, "fp32", RecordingReporter())
    assert found is not None
    assert (found["same_label"], found["passed"]) == (same, passed)
    stopped = RecordingReporter(stop_when=lambda _: True)
    assert portable.compare_labels(merged, build, rows, "fp32", stopped) is None


def test_a_missing_exporter_is_named(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portable, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install onnxscript"):
        portable.build(tiny_model, tmp_path, "fp32")
