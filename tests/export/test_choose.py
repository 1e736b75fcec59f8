"""`--auto`: several builds are made, and the closest within the limits is kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from phi3tune.config import ExportConfig
from phi3tune.engines.models import resolve
from phi3tune.errors import UserError
from phi3tune.export import choose, export, make
from phi3tune.export.make import Source
from phi3tune.export.recipe import Recipe
from phi3tune.paths import Workspace, manifest_problem
from tests.fakes import RecordingReporter

SHAPE = {"hidden_size": 3072, "intermediate_size": 8192}
# Megabytes, tokens per second, mean KL of what the fakes below make.
FIGURES = {
    ("rtn", 16, True): (9, 10, 0.001),
    ("rtn", 32, True): (8, 20, 0.002),
    ("k_quant", 32, True): (8, 20, 0.0015),
    ("rtn", 128, True): (6, 30, 0.004),
    ("rtn", 32, False): (5, 40, 0.006),
    ("rtn", 128, False): (3, 50, 0.03),
}


@pytest.fixture
def auto(
    workspace: Workspace, nano: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Any]]:
    """`auto(max_size=..., min_speed=...)`: the real choice among fake builds with the figures above."""
    compared: list[str] = []

    def write(recipe: Recipe, source: Source, folder: Path, **_: Any) -> None:
        megabytes = FIGURES[recipe.algorithm, recipe.block_size, bool(recipe.mixed)][0]
        (folder / "model.onnx").write_bytes(b"\0" * megabytes * 1_000_000)
        (folder / "build.json").write_text(json.dumps({"size": megabytes}))

    def figures(folder: Path) -> tuple[int, int, float]:
        algorithm, block, *mixed = folder.name.split("-")
        return FIGURES[algorithm, int(block), bool(mixed)]

    def measured(ref: Path, source: Source) -> dict[str, Any]:
        speed = figures(ref)[1]
        return {"prefill_tokens_per_second": 1.0, "decode_tokens_per_second": speed, "peak_memory_bytes": 1}

    def compare(merged: object, ref: Path, *_: Any) -> dict[str, Any]:
        compared.append(ref.name)
        kl = figures(ref)[2]
        shares = {"kl_p99": kl, "top1_agreement": 1.0, "perplexity_ratio": 1.0, "greedy_match": 1.0}
        return {"kl_mean": kl, **shares, "passed": kl <= 0.02}

    monkeypatch.setattr(make, "write", write)
    monkeypatch.setattr(make, "build_ref", lambda folder, weights: folder)
    monkeypatch.setattr(make, "measured", measured)
    monkeypatch.setattr(make, "compare", compare)
    monkeypatch.setattr(make, "reference", lambda weights: nullcontext())
    monkeypatch.setattr(make, "finish", lambda folder, report, source, name: None)

    def run(**limits: Any) -> dict[str, Any]:
        ref = resolve("phi3-nano", workspace)
        reporter = RecordingReporter()
        source = Source(ref, nano, [], {}, tmp_path / "job", workspace, reporter)
        config = ExportConfig(model="phi3-nano", auto=True, **limits)
        result = choose.best(source, config, tmp_path / "builds" / "int4")
        return {**result, "compared": list(compared)}

    return run


@pytest.mark.parametrize(
    ("limits", "chosen"),
    [
        ({}, "rtn-16-mixed"),
        ({"max_size": 8.5}, "k_quant-32-mixed"),
        ({"min_speed": 25}, "rtn-128-mixed"),
        ({"max_size": 5.5, "min_speed": 35}, "rtn-32"),
        ({"max_size": 4}, "rtn-128"),
    ],
)
def test_keeps_the_closest_within_the_limits(
    auto: Callable[..., dict[str, Any]], tmp_path: Path, limits: dict[str, float], chosen: str
) -> None:
    result = auto(**limits)
    assert [row["build"] for row in result["tried"] if row["chosen"]] == [chosen]
    assert len(result["tried"]) == len(FIGURES)
    kept = Path(result["path"])
    told = next(row for row in result["tried"] if row["chosen"])
    assert (kept / "model.onnx").stat().st_size <= told["size_bytes"]
    assert manifest_problem(kept) is None
    table = json.loads((kept / "auto.json").read_text())
    assert table["tried"] == result["tried"]
    assert table["limits"] == {"max_size": None, "min_speed": None, **limits}
    assert set(result["compared"]) == {row["build"] for row in result["tried"] if row["within"]}
    assert list((tmp_path / "job").iterdir()) == []


def test_a_build_within_its_parity_limits_goes_first(auto: Callable[..., dict[str, Any]]) -> None:
    assert auto(max_size=4)["parity"]["passed"] is False
    assert auto(max_size=5.5)["parity"]["passed"] is True


def test_refuses_when_nothing_is_within(auto: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--max-size 2: the smallest of 6 has 3\.0 MB"):
        auto(max_size=2)
    with pytest.raises(UserError, match=r"--max-size 5.5 and --min-speed 90: .* decodes 50\.0 tokens per second"):
        auto(max_size=5.5, min_speed=90)
    assert not (tmp_path / "builds").exists()
    assert list((tmp_path / "job").iterdir()) == []


def test_calibrated_builds_are_tried_where_they_can_be_made() -> None:
    config = ExportConfig(model="x", auto=True)
    assert [each.algorithm for each in choose.candidates(config, SHAPE, calibrated=False)].count("gptq") == 0
    blocks = [each.block_size for each in choose.candidates(config, SHAPE, calibrated=True) if each.algorithm == "gptq"]
    assert blocks == [32, 128]
    odd = {**SHAPE, "intermediate_size": 704}
    blocks = [each.block_size for each in choose.candidates(config, odd, calibrated=True) if each.algorithm == "gptq"]
    assert blocks == [32]


@pytest.mark.slow
def test_phi3_nano(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "_CHOICES", (("rtn", 32, True), ("rtn", 128, False)))
    config = ExportConfig(model="phi3-nano", auto=True, parity_rows=2, parity_tokens=0)
    result = export(config, workspace, RecordingReporter(), job_dir=tmp_path / "job")
    assert result["build"] == "int4"
    assert [row["chosen"] for row in result["tried"]] == [True, False]
    assert result["tried"][0]["kl_mean"] == result["parity"]["kl_mean"] < result["tried"][1]["kl_mean"]
    assert result["tried"][0]["decode_tokens_per_second"] > 0
    build = Path(result["path"])
    assert json.loads((build / "build.json").read_text())["block_size"] == 32
    assert resolve(result["model"], workspace).base == build
