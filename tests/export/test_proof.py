"""A build of phi3-nano with its whole proof: it passes, a damaged one fails, an altered one is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import numpy_helper

from phi3tune import builds, data
from phi3tune.config import DatasetConfig, ExportConfig
from phi3tune.engines import open_engine
from phi3tune.engines.base import Request, Sampling
from phi3tune.engines.models import ModelRef, list_models, resolve
from phi3tune.engines.torch_engine import TorchEngine
from phi3tune.errors import UserError
from phi3tune.export import card, export, measure, parity
from phi3tune.paths import MANIFEST, Workspace, manifest_problem, new_folder, write_json
from tests.fakes import RecordingReporter, tiny_phi3

pytestmark = pytest.mark.slow


@dataclass
class Proven:
    workspace: Workspace
    build: Path
    result: dict[str, Any]


@pytest.fixture(scope="module")
def proven(tmp_path_factory: pytest.TempPathFactory) -> Proven:
    root = tmp_path_factory.mktemp("proven")
    workspace = Workspace(root / "workspace")
    config = ExportConfig(model="phi3-nano", parity_rows=12, parity_tokens=512)
    result = export(config, workspace, RecordingReporter(), job_dir=root / "job")
    return Proven(workspace, Path(result["path"]), result)


def test_healthy_int4_passes_at_every_length(proven: Proven) -> None:
    report = proven.result["parity"]
    assert report["passed"] is True
    assert [each["length"] for each in report["contexts"]] == [128, 256, 384, 512]
    assert all(each["tokens"] > 0 for each in report["contexts"])
    assert manifest_problem(proven.build) is None
    assert {"parity.json", "parity.html", "README.md", "build.json"} <= {path.name for path in proven.build.iterdir()}
    assert "PASSED" in (proven.build / "parity.html").read_text()
    assert str(proven.workspace.root) not in (proven.build / "README.md").read_text()


def test_measured_in_a_process_of_its_own(proven: Proven) -> None:
    measured = proven.result["parity"]["measured"]
    weights = sum(path.stat().st_size for path in proven.build.glob("*.onnx*"))
    assert measured["size_bytes"] == weights
    assert measured["load_seconds"] > 0
    assert measured["prefill_tokens_per_second"] > measured["decode_tokens_per_second"] > 0
    # Not this test's process, which has torch in it.
    assert weights < measured["peak_memory_bytes"] < 400e6


def test_stop_ends_the_measuring(proven: Proven) -> None:
    reporter = RecordingReporter(stop_when=lambda event: True)
    assert measure.measure(resolve(str(proven.build), proven.workspace), reporter, 1) is None


def test_damaged_matrix_fails_and_says_so_everywhere(proven: Proven) -> None:
    damaged = proven.build.with_name("int4-damaged")
    model = onnx.load(proven.build / "model.onnx")
    scales = next(t for t in model.graph.initializer if t.name.endswith("layers.1.mlp.down_proj.MatMul.weight_scales"))
    scales.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scales) * 4, scales.name))
    rows = data.load(DatasetConfig(dataset=str(resolve("phi3-nano", proven.workspace).base / "skills" / "test.jsonl")),
                     proven.workspace).parts["test"][:12]  # fmt: skip
    with new_folder(damaged) as folder:
        ignored = shutil.ignore_patterns("model.onnx*", MANIFEST)
        shutil.copytree(proven.build, folder, ignore=ignored, dirs_exist_ok=True)
        onnx.save(model, folder / "model.onnx", save_as_external_data=True, location="model.onnx.data")
        opened = open_engine(ModelRef("damaged", "damaged", "onnxruntime-genai", folder))
        whole = TorchEngine(resolve("phi3-nano", proven.workspace).base)
        report = parity.compare(whole, opened, rows, "int4", RecordingReporter())
        assert report is not None
        write_json(folder / parity.PARITY, report)
        card.write(folder, proven.workspace, name="int4-damaged")
    assert report["passed"] is False
    assert report["missed"]
    build = builds.find(str(damaged), proven.workspace)
    assert (build.failing, build.verdict) == (True, "failed")
    labels = [ref.label for ref in list_models(proven.workspace) if ref.base == damaged]
    assert labels == ["phi3-nano/onnx/int4-damaged (fails parity)"]
    assert "FAILS parity" in (damaged / "README.md").read_text()
    assert "FAILED" in (damaged / "parity.html").read_text()


def test_archive_answers_alike_elsewhere(proven: Proven, tmp_path: Path) -> None:
    build = builds.find(str(proven.build), proven.workspace)
    with zipfile.ZipFile(builds.archive(build, proven.workspace, tmp_path / "build.zip")) as pack:
        pack.extractall(tmp_path)
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    here, there = (open_engine(resolve(str(place), proven.workspace), threads=1) for place in (proven.build, folder))
    prompt = here.renderer.prompt([{"role": "user", "content": "Hello!"}])
    request = Request(prompt, Sampling(max_new_tokens=16))
    assert here.generate([request])[0].token_ids == there.generate([request])[0].token_ids
    # The lines of the card, as they stand.
    code = (folder / "README.md").read_text().partition("```python\n")[2].partition("```")[0]
    code = code.replace('"path/to/this/folder"', json.dumps(str(folder)))
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True).stdout
    assert here.generate([request])[0].text in said


def test_loaded_build_is_not_deleted(proven: Proven) -> None:
    build = builds.find(str(proven.build), proven.workspace)
    engine = open_engine(resolve(build.ref, proven.workspace), threads=1)
    with pytest.raises(UserError, match="loaded by process"):
        builds.delete(build, proven.workspace)
    engine.close()
    assert proven.build.is_dir()


def test_flipped_byte_is_refused_by_its_hash(proven: Proven, tmp_path: Path) -> None:
    copy = shutil.copytree(proven.build, tmp_path / "int4")
    weights = copy / "model.onnx.data"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    with pytest.raises(UserError, match=r"model\.onnx\.data was altered"):
        open_engine(resolve(str(copy), proven.workspace))


def test_longrope_passes_on_both_sides_of_its_switch(tmp_path: Path, workspace: Workspace) -> None:
    factors = {"short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "partial_rotary_factor": 1.0, **factors}
    lengths = {"max_position_embeddings": 512, "original_max_position_embeddings": 256}
    rope["original_max_position_embeddings"] = 256
    base = tiny_phi3(tmp_path / "base", initializer_range=0.1, rope_parameters=rope, **lengths)
    config = ExportConfig(model=str(base), precision="fp32", parity_rows=2)
    report = export(config, workspace, RecordingReporter(), job_dir=tmp_path / "job")["parity"]
    assert [each["length"] for each in report["contexts"]] == [128, 256, 384, 512]
    assert report["missed"] == []
