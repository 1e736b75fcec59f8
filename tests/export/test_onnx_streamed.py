"""The builder in bounded memory makes what the stock builder makes, bit for bit."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnxruntime_genai.models import builder

from phi3tune.export import streamed
from phi3tune.export.onnx import COMMON_OPTIONS, build, builder_input
from tests.export.test_onnx import IDS, logits_of_build, logits_of_torch
from tests.fakes import tiny_phi3

Content = tuple[dict[str, Any], dict[str, bytes], str]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Rows of 144 weights are no whole number of blocks.
    return tiny_phi3(tmp_path_factory.mktemp("plain") / "base", initializer_range=0.1, intermediate_size=144)


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tied") / "base"
    return tiny_phi3(folder, initializer_range=0.1, num_key_value_heads=2, tie_word_embeddings=True)


def stock(folder: Path, out: Path, precision: str, device: str, options: dict[str, str]) -> None:
    cache, given = str(folder / "cache"), [f"{key}={value}" for key, value in options.items()]
    parsed = builder.parse_extra_options(None, str(folder), str(out), precision, device, cache, given)
    builder.create_model(None, str(folder), str(out), precision, device, cache, **parsed)


def content(out: Path) -> Content:
    graph = onnx.load(out / "model.onnx").graph
    weights = {item.name: (item.data_type, tuple(item.dims), item.raw_data) for item in graph.initializer}
    nodes = {node.name: node.SerializeToString(deterministic=True) for node in graph.node}
    return weights, nodes, (out / "genai_config.json").read_text()


MIXED = {"matmul_mixed_precision": "last_matmul:int8,mixed_layers:int8"}
EMBEDDINGS = {"op_types_to_quantize": "MatMul/Gather"}


@pytest.mark.parametrize(
    ("model", "precision", "device", "options"),
    [
        ("plain", "int8", "cpu", {"block_size": "64"}),
        ("plain", "int4", "cpu", {"block_size": "16", **MIXED, **EMBEDDINGS}),
        ("plain", "int4", "cpu", {"block_size": "128", "is_symmetric": "false", **EMBEDDINGS}),
        ("plain", "int4", "cpu", {"block_size": "32", "algo_config": "rtn", **MIXED}),
        ("plain", "int4", "cuda", {"block_size": "256", **MIXED, **EMBEDDINGS}),
        ("plain", "int4", "dml", {}),
        ("tied", "int4", "cpu", {"block_size": "32", **MIXED, **EMBEDDINGS}),
        ("tied", "int4", "cpu", {"algo_config": "k_quant", **MIXED}),
    ],
)
def test_build_is_the_stock_builders_to_the_bit(
    model: str,
    precision: str,
    device: str,
    options: dict[str, str],
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In slices of some rows; the vocabulary's matrices have dozens of them."""
    monkeypatch.setattr(streamed, "_SLICE", 50_000)
    made = []
    with builder_input(request.getfixturevalue(model), tmp_path) as folder, contextlib.redirect_stdout(sys.stderr):
        for name, create in {"stock": stock, "ours": streamed.create}.items():
            (tmp_path / name).mkdir()
            create(folder, tmp_path / name, precision, device, {**COMMON_OPTIONS, **options})
            made.append(content(tmp_path / name))
    assert made[0] == made[1]


def test_k_quant_takes_an_odd_number_of_blocks(plain: Path, tmp_path: Path) -> None:
    """Rows of 64 and of 144 are 1 and 3 blocks of 64; the stock builder fails (ValueError: cannot reshape array)."""
    out = tmp_path / "out"
    out.mkdir()
    build(plain, out, "int4", tmp_path, algorithm="k_quant", block_size=64)
    assert {len(inputs) for inputs in matrices(out)} == {4}  # with zero points
    reference = logits_of_torch(plain, IDS[:20])
    assert np.square(logits_of_build(out, IDS[:20]) - reference).mean() < reference.var() / 10


def test_settings_of_int4_reach_the_graph(tiny_model: Path, tmp_path: Path) -> None:
    build(
        tiny_model, tmp_path, "int4", tmp_path, algorithm="rtn", block_size=128, mixed=False, quantize_embeddings=False
    )
    assert {len(inputs) for inputs in matrices(tmp_path)} == {3}
    graph = onnx.load(tmp_path / "model.onnx", load_external_data=False).graph
    attributes = [
        {item.name: item.i for item in node.attribute} for node in graph.node if node.op_type == "MatMulNBits"
    ]
    assert {(item["bits"], item["block_size"], item["accuracy_level"]) for item in attributes} == {(4, 128, 4)}
    assert "GatherBlockQuantized" not in {node.op_type for node in graph.node}


def matrices(folder: Path) -> list[list[str]]:
    """The inputs of every quantised matrix."""
    nodes = onnx.load(folder / "model.onnx", load_external_data=False).graph.node
    return [list(node.input) for node in nodes if node.op_type == "MatMulNBits"]


PEAK = """
import resource, sys
from pathlib import Path
from phi3tune.export.onnx import build
peak = 0
for source in sys.argv[1:]:
    out = Path(source + "-out")
    out.mkdir()
    build(Path(source), out, {precision!r}, out.parent)
    before, peak = peak, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((peak - before) * 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["int4", "fp16"])
def test_memory_is_bounded(precision: str, tmp_path: Path) -> None:
    """The checkpoint has 370 MB; the stock builder takes twice that and more, on top of what a tiny model costs."""
    small = tiny_phi3(tmp_path / "small")
    large = tiny_phi3(
        tmp_path / "large", hidden_size=512, intermediate_size=2048, num_hidden_layers=14, num_attention_heads=8,
        num_key_value_heads=8,
    )  # fmt: skip
    size = sum(path.stat().st_size for path in large.glob("*.safetensors"))
    script = PEAK.format(precision=precision)
    done = subprocess.run(
        [sys.executable, "-c", script, str(small), str(large)], check=True, capture_output=True, text=True
    )
    assert size > 350e6
    assert int(done.stdout) < 0.9 * size
