"""`open_engine`: hashes first, then the right engine."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from phi3tune.engines import open_engine
from phi3tune.engines.base import Request, Sampling, collect
from phi3tune.engines.models import ModelRef
from phi3tune.engines.torch_engine import TorchEngine
from phi3tune.errors import UserError
from phi3tune.paths import write_manifest

REQUEST = Request([32010, 6324, 727, 32007, 32001], Sampling(max_new_tokens=6))


def test_run(tiny_model: Path, adapters: dict[str, Path], tmp_path: Path, torch_engine: TorchEngine) -> None:
    adapter = shutil.copytree(adapters["run.one"], tmp_path / "adapter")
    ref = ModelRef("r", "my run", "torch", tiny_model, adapter, "r")
    with pytest.raises(UserError, match="never completed"):
        open_engine(ref)
    write_manifest(adapter)
    engine = open_engine(ref, threads=1)
    assert engine.info.name == "my run"
    expected = collect(torch_engine.with_adapter("run.one").stream(REQUEST)).token_ids
    assert collect(engine.stream(REQUEST)).token_ids == expected
    engine.close()


@pytest.mark.slow
def test_build(fp32_build: Path, tmp_path: Path, torch_engine: TorchEngine) -> None:
    folder = shutil.copytree(fp32_build, tmp_path / "fp32-test")
    write_manifest(folder)
    engine = open_engine(ModelRef("r/onnx/fp32-test", "build", "onnxruntime-genai", folder, None, "r"), threads=1)
    assert (engine.info.name, engine.info.precision) == ("build", "fp32")
    assert engine.generate([REQUEST])[0].token_ids == torch_engine.generate([REQUEST])[0].token_ids
    engine.close()
    data = bytearray((folder / "model.onnx.data").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "model.onnx.data").write_bytes(data)
    with pytest.raises(UserError, match=r"model\.onnx\.data was altered"):
        open_engine(ModelRef("r/onnx/fp32-test", "build", "onnxruntime-genai", folder, None, "r"))
