"""LoRA adapters over one shared build of their base."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from phi3tune import data
from phi3tune.config import DatasetConfig, ExportConfig
from phi3tune.engines import open_engine
from phi3tune.engines.genai import GenaiEngine
from phi3tune.engines.models import list_models, resolve
from phi3tune.errors import UserError
from phi3tune.events import Phase
from phi3tune.export import export
from phi3tune.paths import MANIFEST, Workspace, manifest_problem
from tests.fake_runs import chats, finished_run
from tests.fakes import RecordingReporter, tiny_phi3


class Adapted:
    """Two runs of one base with adapters of other ranks and other layers, and the int4 builds of both."""

    def __init__(self, root: Path) -> None:
        self.workspace = Workspace(root / "workspace")
        self.base = tiny_phi3(root / "base", initializer_range=0.1)
        self.data = chats(root / "chats.jsonl", 40)
        finished_run(self.workspace, "one", self.base, self.data, use_rslora=True)
        finished_run(self.workspace, "two", self.base, self.data, r=8, seed=3, modules=("qkv_proj", "gate_up_proj"))
        self.phases: dict[str, list[str]] = {}
        self.results: dict[str, dict[str, Any]] = {}
        for run in ("one", "two"):
            reporter = RecordingReporter()
            config = ExportConfig(model=run, format="onnx-adapter", precision="fp32", parity_rows=2, parity_tokens=0)
            self.results[run] = export(config, self.workspace, reporter, job_dir=root / "job")
            self.phases[run] = [phase.name for phase in reporter.of(Phase)]


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> Adapted:
    return Adapted(tmp_path_factory.mktemp("adapted"))


def row(adapted: Adapted) -> list[int]:
    dataset = data.load(DatasetConfig(dataset=str(adapted.data)), adapted.workspace)
    engine = open_engine(resolve(str(adapted.base), adapted.workspace))
    return engine.renderer.training_example(dataset.parts["test"][0].messages).input_ids


@pytest.mark.slow
def test_adapters_of_any_shape_share_one_build(adapted: Adapted) -> None:
    first, second = adapted.results["one"], adapted.results["two"]
    assert first["base"] == second["base"]
    assert Path(first["base"]).name == "fp32-lora"
    assert "building" in adapted.phases["one"]
    assert "building" not in adapted.phases["two"]
    for run, result in adapted.results.items():
        assert result["build"] == "fp32-adapter"
        assert result["parity"]["passed"] is True
        ref = resolve(result["model"], adapted.workspace)
        assert (ref.kind, ref.run) == ("onnxruntime-genai", run)
        assert (ref.base, ref.adapter) == (Path(result["base"]), Path(result["path"]))
        assert manifest_problem(Path(result["path"])) is None
    assert {"one/onnx/fp32-adapter", "two/onnx/fp32-adapter"} <= {ref.ref for ref in list_models(adapted.workspace)}


@pytest.mark.slow
def test_one_engine_answers_as_base_and_as_each_run(adapted: Adapted) -> None:
    ids = row(adapted)
    refs = {run: resolve(f"{run}/onnx/fp32-adapter", adapted.workspace) for run in ("one", "two")}
    shared = GenaiEngine(refs["one"].base, {run: ref.adapter for run, ref in refs.items() if ref.adapter is not None})
    whole = {run: open_engine(resolve(run, adapted.workspace)).score(ids).logprobs for run in refs}
    base = open_engine(resolve(str(adapted.base), adapted.workspace)).score(ids).logprobs
    assert np.abs(whole["one"] - whole["two"]).max() > 0.1
    for _ in range(2):  # switching leaves nothing behind
        assert np.abs(shared.score(ids).logprobs - base).max() < 1e-3
        for run, expected in whole.items():
            assert np.abs(shared.with_adapter(run).score(ids).logprobs - expected).max() < 1e-3


@pytest.mark.slow
def test_side_paths_stay_in_full_precision_in_int4(adapted: Adapted, tmp_path: Path) -> None:
    config = ExportConfig(model="one", format="onnx-adapter", parity_rows=1, parity_tokens=0)
    result = export(config, adapted.workspace, RecordingReporter(), job_dir=tmp_path / "job")
    graph = onnx.load(Path(result["base"]) / "model.onnx", load_external_data=False).graph
    side = [tensor for tensor in graph.initializer if "lora" in tensor.name]
    assert side and all(tensor.data_type == onnx.TensorProto.FLOAT and 0 in tensor.dims for tensor in side)
    assert {node.op_type for node in graph.node if "lora_" in node.name} == {"MatMul", "Add"}
    assert any(node.op_type == "MatMulNBits" for node in graph.node)


@pytest.mark.slow
def test_a_base_that_changed_is_refused(adapted: Adapted, workspace: Workspace) -> None:
    shutil.copytree(adapted.workspace.root, workspace.root)
    place = json.loads((workspace.runs / "one" / "onnx" / "fp32-adapter" / "base.json").read_text())["base"]
    manifest = workspace.root / place / MANIFEST
    manifest.write_text(manifest.read_text() + "\n")
    with pytest.raises(UserError, match="made anew since; export one/onnx/fp32-adapter again"):
        resolve("one/onnx/fp32-adapter", workspace)
    manifest.unlink()
    with pytest.raises(UserError, match="is gone"):
        resolve("one/onnx/fp32-adapter", workspace)


def test_a_base_outside_the_workspace_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter.onnx_adapter").write_bytes(b"x")
    (folder / "base.json").write_text(json.dumps({"base": "../../etc", "sha256": ""}))
    with pytest.raises(UserError, match="base build of adapter is gone"):
        resolve(str(folder), workspace)


@pytest.mark.parametrize(
    ("lora", "told"),
    [({"use_dora": True}, "DoRA"), ({"modules_to_save": ["lm_head"]}, "lm_head.weight")],
)
def test_what_is_more_than_lora_is_refused(
    workspace: Workspace, tiny_model: Path, tmp_path: Path, lora: dict[str, Any], told: str
) -> None:
    finished_run(workspace, "other", tiny_model, chats(tmp_path / "chats.jsonl", 20), **lora)
    config = ExportConfig(model="other", format="onnx-adapter")
    with pytest.raises(UserError, match=told) as refused:
        export(config, workspace, RecordingReporter(), job_dir=tmp_path / "job")
    assert "--format onnx" in str(refused.value)


def test_a_model_without_an_adapter_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    config = ExportConfig(model="phi3-nano", format="onnx-adapter")
    with pytest.raises(UserError, match="no adapter; use --format onnx"):
        export(config, workspace, RecordingReporter(), job_dir=tmp_path / "job")
