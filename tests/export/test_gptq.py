"""Calibrated 4-bit builds. What needs the optional package runs where it is installed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from phi3tune import data
from phi3tune.config import DatasetConfig, ExportConfig
from phi3tune.engines.models import resolve
from phi3tune.errors import UserError
from phi3tune.export import export, gptq
from phi3tune.export.recipe import GPTQ_INSTALL
from phi3tune.export.rows import training
from phi3tune.paths import Workspace
from tests.fake_runs import chats, finished_run
from tests.fakes import RecordingReporter, tiny_phi3

CANARY = "quokka zephyr marmalade"


def test_refused_with_the_line_that_installs_it(
    workspace: Workspace, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = finished_run(workspace, "tuned", tiny_model, chats(tmp_path / "chats.jsonl", 20))
    monkeypatch.setattr(gptq, "installed", lambda: False)
    with pytest.raises(UserError, match="pip install --no-build-isolation gptqmodel"):
        export(ExportConfig(model="tuned", algorithm="gptq"), workspace, RecordingReporter(), job_dir=tmp_path / "job")
    assert not (run / "merged").exists()


def test_refused_for_a_model_that_has_no_training_rows(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gptq, "installed", lambda: True)
    config = ExportConfig(model="phi3-nano", algorithm="gptq")
    with pytest.raises(UserError, match="phi3-nano is no run; use --algorithm auto"):
        export(config, workspace, RecordingReporter(), job_dir=tmp_path / "job")
    assert not workspace.exports.exists()


def test_calibrates_on_rows_of_the_training_only(workspace: Workspace, tiny_model: Path, tmp_path: Path) -> None:
    path = chats(tmp_path / "chats.jsonl", 40)
    finished_run(workspace, "tuned", tiny_model, path)
    parts = data.load(DatasetConfig(dataset=str(path)), workspace).parts
    rows = training(resolve("tuned", workspace), workspace, 10)
    assert len(rows) == 10
    assert rows == training(resolve("tuned", workspace), workspace, 10)
    assert all(row in parts["train"] for row in rows)
    assert training(resolve("tuned", workspace), workspace, 1000) != []


def test_eight_bits_are_packed_as_the_builder_reads_them(tmp_path: Path) -> None:
    from onnxruntime_genai.models.loaders.gptq import GPTQModel

    torch.manual_seed(0)
    weight = torch.randn(64, 96)
    names = ("self_attn.o_proj", "mlp.down_proj")
    tensors = {f"model.layers.0.{name}.{key}": t for name in names for key, t in gptq._eight_bits(weight, 32).items()}
    tensors |= {f"model.layers.0.{name}.g_idx": torch.arange(96, dtype=torch.int32) // 32 for name in names}
    save_file(tensors, tmp_path / "model.safetensors")
    attributes = {"config": {"group_size": 32, "bits": 8}, "use_g_idx": False}
    module = GPTQModel("gptq", str(tmp_path), attributes, 64, 64, 64, 1).layers[0].mlp.down_proj
    numbers = torch.as_tensor(module.qweight).view(torch.uint8).reshape(64, 3, 32).float()
    scales = torch.as_tensor(module.scales).float().reshape(64, 3, 1)
    restored = ((numbers - 128) * scales).reshape(64, 96)
    assert (restored - weight).abs().max() <= weight.abs().max() / 127


@pytest.mark.slow
@pytest.mark.skipif(not gptq.installed(), reason=f"the optional package is not installed: {GPTQ_INSTALL}")
def test_build_leaves_no_calibration_text(workspace: Workspace, tmp_path: Path) -> None:
    base = tiny_phi3(tmp_path / "base", initializer_range=0.1)
    turns = [
        [{"role": "user", "content": f"{CANARY} {n}?"}, {"role": "assistant", "content": f"{CANARY} {n}."}]
        for n in range(40)
    ]
    path = tmp_path / "chats.jsonl"
    path.write_text("".join(json.dumps({"messages": row}) + "\n" for row in turns))
    finished_run(workspace, "tuned", base, path)
    config = ExportConfig(model="tuned", algorithm="gptq", calibration_rows=8, parity_rows=2, parity_tokens=0)
    result = export(config, workspace, RecordingReporter(), job_dir=tmp_path / "job")
    build = Path(result["path"])
    assert result["build"] == "int4-gptq"
    assert json.loads((build / "build.json").read_text())["algorithm"] == "gptq"
    ids = np.array(resolve_ids(base), dtype=np.int64).tobytes()
    for file in [*build.rglob("*"), *(tmp_path / "job").rglob("*")]:
        if file.is_file():
            content = file.read_bytes()
            assert not any(word.encode() in content for word in CANARY.split()), file
            assert ids not in content, file


def resolve_ids(base: Path) -> list[int]:
    from phi3tune.chat import Renderer

    return Renderer.load(base).prompt([{"role": "user", "content": CANARY}])[1:-2]
