from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from phi3tune import data, system
from phi3tune.config import BuildDevice, DatasetConfig, ExportConfig
from phi3tune.engines import open_engine
from phi3tune.engines.models import ModelRef, resolve
from phi3tune.engines.torch_engine import TorchEngine
from phi3tune.errors import UserError
from phi3tune.events import Notice, Phase
from phi3tune.export import export, make, parity
from phi3tune.export.recipe import Recipe
from phi3tune.paths import MANIFEST, Workspace, manifest_problem
from tests.export.conftest import Exported
from tests.fake_runs import chats, finished_run, lora_adapter
from tests.fakes import RecordingReporter, tiny_phi3

Export = Callable[..., dict[str, Any]]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["int4", "int8", "fp32"])
def test_build_is_whole_and_carries_its_proof(exported: Exported, precision: str) -> None:
    result, path = exported.results[precision], exported.run / "onnx" / precision
    assert (result["build"], result["path"]) == (precision, str(path))
    assert result["seconds"] > 0
    assert manifest_problem(path) is None
    assert result["size_bytes"] == sum(file.stat().st_size for file in path.iterdir())
    assert json.loads((path / "parity.json").read_text()) == result["parity"]
    assert "parity.json" in json.loads((path / MANIFEST).read_text())["files"]
    assert result["parity"]["rows"] == 2  # of the four in the run's own test part
    assert result["parity"]["data"] == {"dataset": "chats", "part": "test"}
    assert resolve(result["model"], exported.workspace).base == path
    assert list(exported.run.rglob(".*tmp*")) == []


@pytest.mark.slow
def test_precisions_differ_as_they_should(exported: Exported) -> None:
    results = [exported.results[precision] for precision in ("int4", "int8", "fp32")]
    sizes = [result["size_bytes"] for result in results]
    divergences = [result["parity"]["kl_mean"] for result in results]
    assert sizes == sorted(sizes)
    assert divergences == sorted(divergences, reverse=True)
    assert results[2]["parity"]["passed"] is True
    assert results[2]["parity"]["greedy_match"] == 1.0


@pytest.mark.slow
def test_failing_build_is_kept_and_said(exported: Exported) -> None:
    """int4 of random weights: nearly flat distributions, where every rounding changes the first choice."""
    result = exported.results["int4"]
    assert result["parity"]["passed"] is False
    assert Path(result["path"]).is_dir()
    notices = [event.code for event in exported.reporter.events if isinstance(event, Notice)]
    assert "parity_failed" in notices


@pytest.mark.slow
def test_fp32_build_scores_like_the_tuned_model(exported: Exported) -> None:
    tuned = open_engine(resolve("tuned", exported.workspace))
    build = open_engine(resolve("tuned/onnx/fp32", exported.workspace))
    base = open_engine(resolve(str(exported.base), exported.workspace))
    dataset = data.load(DatasetConfig(dataset=str(exported.data)), exported.workspace)
    ids = tuned.renderer.training_example(dataset.parts["test"][0].messages).input_ids
    scores = [engine.score(ids).logprobs for engine in (tuned, build, base)]
    assert np.abs(scores[0] - scores[1]).max() < 1e-3
    assert np.abs(scores[0] - scores[2]).max() > 0.1  # so the adapter is in the build


@pytest.mark.slow
def test_adapter_is_merged_not_quantised_beside(exported: Exported) -> None:
    graph = onnx.load(exported.run / "onnx" / "int4" / "model.onnx", load_external_data=False).graph
    assert not any("lora" in tensor.name.lower() for tensor in graph.initializer)


@pytest.mark.slow
def test_merged_weights_are_made_once(exported: Exported) -> None:
    phases = [event.name for event in exported.reporter.events if isinstance(event, Phase)]
    assert phases.count("merging") == 1
    assert phases.count("building") == 3
    assert manifest_problem(exported.run / "merged") is None


@pytest.mark.slow
def test_flipped_byte_is_refused_at_loading(exported: Exported, workspace: Workspace) -> None:
    shutil.copytree(exported.workspace.root, workspace.root)
    weights = workspace.runs / "tuned" / "onnx" / "fp32" / "model.onnx.data"
    open_engine(resolve("tuned/onnx/fp32", workspace)).close()
    with weights.open("r+b") as stream:
        stream.seek(weights.stat().st_size // 2)
        byte = stream.read(1)[0]
        stream.seek(-1, 1)
        stream.write(bytes([byte ^ 1]))
    assert "model.onnx.data was altered" in str(manifest_problem(weights.parent))
    with pytest.raises(UserError, match="altered"):
        open_engine(resolve("tuned/onnx/fp32", workspace))


@pytest.mark.slow
def test_build_says_how_it_was_made_and_measured(exported: Exported) -> None:
    built = json.loads((exported.run / "onnx" / "int4" / "build.json").read_text())
    assert built == {
        "schema": 1,
        "format": "onnx",
        "precision": "int4",
        "device": "cpu",
        "algorithm": "auto",
        "block_size": 16,
        "mixed": True,
        "quantize_embeddings": True,
        "made_from": "tuned",
    }
    assert json.loads((exported.run / "onnx" / "fp32" / "build.json").read_text())["block_size"] is None
    measured = exported.results["int8"]["parity"]["measured"]
    assert measured["decode_tokens_per_second"] > 0
    assert measured["peak_memory_bytes"] > measured["size_bytes"]
    assert (exported.run / "onnx" / "int8" / "README.md").is_file()
    assert (exported.run / "merged" / "README.md").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cuda", "dml", "webgpu"])
def test_a_build_for_a_device_that_is_not_here_is_made_and_not_compared(
    exported: Exported, tmp_path: Path, device: BuildDevice
) -> None:
    if make.runs_here(device):
        pytest.skip(f"{device} is here")
    reporter = RecordingReporter()
    config = ExportConfig(model="tuned", device=device)
    result = export(config, exported.workspace, reporter, job_dir=tmp_path / "job")
    assert (result["build"], result["parity"]) == (f"int4-{device}", None)
    assert [notice.code for notice in reporter.of(Notice)] == ["not_compared"]
    build = Path(result["path"])
    assert not (build / "parity.json").exists()
    ref = resolve(f"tuned/onnx/int4-{device}", exported.workspace)
    assert (ref.base, ref.failing) == (build, False)
    assert manifest_problem(build) is None


@pytest.mark.slow
def test_fp16_for_the_cpu(exported: Exported, tmp_path: Path) -> None:
    config = ExportConfig(model="tuned", precision="fp16", parity_rows=2)
    result = export(config, exported.workspace, RecordingReporter(), job_dir=tmp_path / "job")
    assert result["build"] == "fp16"
    assert exported.results["fp32"]["size_bytes"] > 1.5 * result["size_bytes"]  # the tokenizer is in both
    assert result["parity"]["kl_mean"] < 1e-4


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "int4"),
        ({"algorithm": "k_quant", "block_size": 64}, "int4-k_quant"),
        ({"algorithm": "gptq", "device": "cuda"}, "int4-gptq-cuda"),
        ({"precision": "fp16", "device": "dml"}, "fp16-dml"),
        ({"format": "portable-onnx"}, "fp32-portable"),
        ({"format": "onnx-adapter", "precision": "int8"}, "int8-adapter"),
        ({"auto": True}, "int4"),
    ],
)
def test_builds_are_named_after_what_was_asked_for(settings: dict[str, Any], name: str) -> None:
    assert Recipe.of(ExportConfig(model="x", **settings)).name == name


@pytest.fixture(scope="module")
def nano_int8(nano: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Any]]]:
    root = tmp_path_factory.mktemp("nano")
    config = ExportConfig(model="phi3-nano", precision="int8", parity_rows=4)
    result = export(config, Workspace(root / "workspace"), RecordingReporter(), job_dir=root / "job")
    yield Path(result["path"]), result


@pytest.mark.slow
def test_phi3_nano_passes_and_a_damaged_matrix_does_not(
    nano_int8: tuple[Path, dict[str, Any]], nano: Path, tmp_path: Path, workspace: Workspace
) -> None:
    build, result = nano_int8
    assert build.parent.parent.name == "phi3-nano"
    assert result["parity"]["passed"] is True
    damaged = tmp_path / "int8"
    model = onnx.load(build / "model.onnx")
    scales = next(t for t in model.graph.initializer if t.name.endswith("layers.1.mlp.down_proj.MatMul.weight_scales"))
    scales.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scales) * 4, scales.name))
    shutil.copytree(build, damaged, ignore=shutil.ignore_patterns("model.onnx*", MANIFEST))
    onnx.save(model, damaged / "model.onnx", save_as_external_data=True, location="model.onnx.data")
    assert result["parity"]["data"]["dataset"] == "skills/test.jsonl"
    rows = data.load(DatasetConfig(dataset=str(nano / "skills" / "test.jsonl")), workspace).parts["test"][:4]
    engines = TorchEngine(nano), open_engine(ModelRef("damaged", "damaged", "onnxruntime-genai", damaged))
    report = parity.compare(*engines, rows, "int8", RecordingReporter())
    assert report is not None
    assert report["passed"] is False
    assert report["kl_mean"] > 0.002


@pytest.mark.slow
def test_window_shorter_than_the_chats(workspace: Workspace, tmp_path: Path, run_export: Export) -> None:
    base = tiny_phi3(tmp_path / "base", initializer_range=0.1, sliding_window=12)
    finished_run(workspace, "windowed", base, chats(tmp_path / "chats.jsonl", 20))
    result = run_export("windowed", precision="fp32", parity_rows=2)
    assert result["parity"]["passed"] is True
    assert "layer_types" not in json.loads((workspace.runs / "windowed" / "merged" / "config.json").read_text())


def test_format_merged(workspace: Workspace, tiny_model: Path, tmp_path: Path, run_export: Export) -> None:
    run = finished_run(workspace, "tuned", tiny_model, chats(tmp_path / "chats.jsonl", 20))
    result = run_export("tuned", format="merged")
    assert (result["build"], result["model"], result["parity"]) == ("merged", "tuned/merged", None)
    assert result["path"] == str(run / "merged")
    before = (run / "merged").stat().st_ino
    assert run_export("tuned", format="merged")["path"] == str(run / "merged")
    assert (run / "merged").stat().st_ino == before
    lora_adapter(tiny_model, run / "adapter", seed=2)
    (run / "adapter" / MANIFEST).unlink()
    with pytest.raises(UserError, match="never completed"):
        run_export("tuned", format="merged")


@pytest.mark.slow
def test_checkpoint_does_not_replace_the_runs_own(
    workspace: Workspace, tiny_model: Path, tmp_path: Path, run_export: Export
) -> None:
    run = finished_run(workspace, "tuned", tiny_model, chats(tmp_path / "chats.jsonl", 20))
    shutil.copytree(run / "adapter", run / "checkpoints" / "checkpoint-3")
    merged = run_export("tuned/checkpoint-3", format="merged")
    assert Path(merged["path"]).is_relative_to(workspace.exports / "models")
    assert not (run / "merged").exists()
    assert resolve(merged["model"], workspace).base == Path(merged["path"])
    build = run_export("tuned/checkpoint-3", precision="fp32", parity_rows=1)
    assert (build["build"], build["model"]) == ("fp32-checkpoint-3", "tuned/onnx/fp32-checkpoint-3")
    assert resolve(build["model"], workspace).run == "tuned"
    assert not (run / "merged").exists()


def test_two_folders_of_one_name_do_not_share_a_build(workspace: Workspace, tiny_model: Path, tmp_path: Path) -> None:
    from phi3tune.export.run import home_of

    homes = set()
    for parent in ("a", "b"):
        shutil.copytree(tiny_model, tmp_path / parent / "model")
        homes.add(home_of(resolve(str(tmp_path / parent / "model"), workspace), workspace))
    assert len(homes) == 2


@pytest.mark.parametrize(
    ("model", "settings", "told"),
    [
        ("nothing", {}, "does not exist"),
        ("phi3-nano", {"format": "merged"}, "no adapter"),
        ("", {}, "does not exist"),
    ],
)
def test_mistakes(run_export: Export, workspace: Workspace, model: str, settings: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        run_export(model, **settings)
    assert not workspace.exports.exists()


def test_an_adapter_of_another_kind_is_refused(
    workspace: Workspace, tiny_model: Path, tmp_path: Path, run_export: Export
) -> None:
    """The stock builder would take its matrices for plain LoRA and build a wrong model without a word."""
    run = finished_run(workspace, "biased", tiny_model, chats(tmp_path / "chats.jsonl", 20), lora_bias=True)
    with pytest.raises(UserError, match="lora_bias"):
        run_export("biased")
    assert not (run / "merged").exists()
    assert not (run / "onnx").exists()


def test_full_disk_is_told_before_anything_is_written(
    workspace: Workspace,
    tiny_model: Path,
    tmp_path: Path,
    run_export: Export,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = finished_run(workspace, "tuned", tiny_model, chats(tmp_path / "chats.jsonl", 20))
    monkeypatch.setattr(system, "disk_free", lambda path: 1024)
    with pytest.raises(UserError, match=r"0\.1 GiB are needed and 0\.0 GiB are free"):
        run_export("tuned")
    assert not (run / "merged").exists()


def test_stop_leaves_nothing_half_done(
    workspace: Workspace, tiny_model: Path, tmp_path: Path, run_export: Export
) -> None:
    run = finished_run(workspace, "tuned", tiny_model, chats(tmp_path / "chats.jsonl", 20))
    reporter = RecordingReporter(stop_when=lambda event: isinstance(event, Phase) and event.name == "building")
    assert run_export("tuned", reporter=reporter) == {"status": "stopped"}
    assert list((run / "onnx").iterdir()) == []
    assert manifest_problem(run / "merged") is None


def test_leftovers_of_a_killed_export_are_swept(
    workspace: Workspace, tiny_model: Path, tmp_path: Path, run_export: Export
) -> None:
    run = finished_run(workspace, "tuned", tiny_model, chats(tmp_path / "chats.jsonl", 20))
    leftover = run / "onnx" / ".int4.tmp-123-abcdef"
    leftover.mkdir(parents=True)
    lock = system.FolderLock(run / "run.lock")
    assert lock.acquire()
    run_export("tuned", format="merged")
    assert leftover.exists()  # the run is at work, and its own temporary files look the same
    lock.release()
    run_export("tuned", format="merged")
    assert not leftover.exists()


@pytest.mark.slow
def test_changed_data_is_not_taken_for_held_out(
    workspace: Workspace, tiny_model: Path, tmp_path: Path, run_export: Export
) -> None:
    path = chats(tmp_path / "chats.jsonl", 20)
    finished_run(workspace, "tuned", tiny_model, path)
    chats(path, 20, first=100)
    reporter = RecordingReporter()
    result = run_export("tuned", precision="fp32", parity_rows=1, reporter=reporter)
    assert result["parity"]["data"] == {"dataset": "lantern-support", "part": "test"}
    assert [notice.code for notice in reporter.of(Notice)] == ["run_rows_gone"]
