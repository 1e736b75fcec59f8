"""Names of models: what they resolve to, and what is refused with which words. No weights are read."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from phi3tune.engines import models
from phi3tune.engines.models import buildable, list_models, resolve, starting_point, verify, whole_weights
from phi3tune.errors import UserError
from phi3tune.paths import PACKAGE, Workspace, write_manifest

CONFIG = {"model_type": "phi3", "architectures": ["Phi3ForCausalLM"]}


def write(folder: Path, **files: object) -> Path:
    """A folder with small files; `__` in a name stands for a dot, dicts are written as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def weights(folder: Path, **changes: object) -> Path:
    return write(folder, config__json={**CONFIG, **changes}, model__safetensors="w", tokenizer__json={})


def adapter(folder: Path, base: Path | str = "") -> Path:
    config = {"peft_type": "LORA", "base_model_name_or_path": str(base)}
    return write(folder, adapter_config__json=config, adapter_model__safetensors="a")


def build(folder: Path) -> Path:
    config = {"model": {"type": "phi3", "decoder": {"filename": "model.onnx"}}}
    return write(folder, genai_config__json=config, model__onnx="m", tokenizer__json={})


def run(workspace: Workspace, name: str, model: Path | str, result: str | None = "adapter") -> Path:
    folder = write(workspace.runs / name, run__yaml=f"model: {model}\n")
    if result == "adapter":
        adapter(folder / "adapter")
    elif result == "merged":
        weights(folder / "merged")
    return folder


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return weights(tmp_path / "base")


@pytest.fixture(autouse=True)
def nano(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = weights(tmp_path / "nano")
    monkeypatch.setattr(models, "NANO", folder)
    return folder


def refusal(ref: str | Path, workspace: Workspace) -> str:
    with pytest.raises(UserError) as caught:
        resolve(str(ref), workspace)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_nano_and_folder(nano: Path, base: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = resolve("phi3-nano", workspace)
    assert (ref.ref, ref.kind, ref.base, ref.adapter, ref.run) == ("phi3-nano", "torch", nano, None, None)
    monkeypatch.chdir(base.parent)
    ref = resolve("base", workspace)
    assert (ref.label, ref.base, ref.tokenizer) == ("base", base, base)
    monkeypatch.chdir("/")
    assert resolve(ref.ref, workspace).base == base


def test_run_and_its_parts(base: Path, workspace: Workspace) -> None:
    folder = run(workspace, "r", base)
    weights(folder / "merged")
    build(folder / "onnx" / "int4")
    write_manifest(adapter(folder / "checkpoints" / "checkpoint-10"))
    assert resolve("r", workspace) == resolve("r/", workspace)
    tuned = resolve("r", workspace)
    assert (tuned.base, tuned.adapter, tuned.run, tuned.kind) == (base, folder / "adapter", "r", "torch")
    checkpoint = resolve("r/checkpoint-10", workspace)
    assert (checkpoint.base, checkpoint.adapter) == (base, folder / "checkpoints" / "checkpoint-10")
    merged = resolve("r/merged", workspace)
    assert (merged.base, merged.adapter, merged.run) == (folder / "merged", None, "r")
    onnx = resolve("r/onnx/int4", workspace)
    assert (onnx.kind, onnx.base, onnx.run) == ("onnxruntime-genai", folder / "onnx" / "int4", "r")


def test_full_run_is_its_merged_weights(base: Path, workspace: Workspace) -> None:
    folder = run(workspace, "f", base, result="merged")
    write_manifest(weights(folder / "checkpoints" / "checkpoint-5"))
    assert resolve("f", workspace).base == folder / "merged"
    assert resolve("f/checkpoint-5", workspace).base == folder / "checkpoints" / "checkpoint-5"


def test_runs_win_over_paths_and_paths_over_hub_ids(
    base: Path, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    weights(tmp_path / "same")
    weights(tmp_path / "owner" / "name")
    run(workspace, "same", base)
    assert resolve("same", workspace).run == "same"
    assert resolve("./same", workspace).base == tmp_path / "same"
    assert resolve("owner/name", workspace).base == tmp_path / "owner" / "name"


def test_run_on_a_run(base: Path, workspace: Workspace) -> None:
    full = run(workspace, "full", base, result="merged")
    assert resolve("second", run(workspace, "second", "full") and workspace).base == full / "merged"
    lora = run(workspace, "lora", base)
    run(workspace, "third", "lora")
    message = refusal("third", workspace)
    assert "phi3tune export lora --format merged" in message
    weights(lora / "merged")
    assert resolve("third", workspace).base == lora / "merged"


def test_a_run_named_like_its_base_does_not_loop(
    base: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(base.parent)
    run(workspace, "base", "base")
    assert resolve("base", workspace).base == base
    run(workspace, "a", "b")
    run(workspace, "b", "a")
    assert "'a'" in refusal("a", workspace)


def test_whole_weights(base: Path, workspace: Workspace) -> None:
    folder = run(workspace, "r", base)
    build(folder / "onnx" / "int4")
    write_manifest(adapter(folder / "checkpoints" / "checkpoint-1"))
    assert whole_weights(resolve(str(base), workspace), workspace) == base
    for ref, words in (("r", "--format merged"), ("r/onnx/int4", "ONNX"), ("r/checkpoint-1", "adapter")):
        with pytest.raises(UserError, match=words):
            whole_weights(resolve(ref, workspace), workspace)


def test_a_run_on_an_adapter_belongs_to_its_base_whatever_becomes_of_the_run(base: Path, workspace: Workspace) -> None:
    first = run(workspace, "first", base)
    start = starting_point(resolve("first", workspace), workspace, adapter=True)
    assert (start.base, start.adapter, start.origin) == (base, first / "adapter", str(base))
    with pytest.raises(UserError, match="--format merged"):
        starting_point(start, workspace, adapter=False)
    second = run(workspace, "second", "first")
    write(second, model__json={"model": "first", "base": start.origin})
    shutil.rmtree(first)
    found = resolve("second", workspace)
    assert (found.base, found.adapter, found.origin) == (base, second / "adapter", str(base))


def test_merged_weights_are_a_starting_point_of_their_own(base: Path, workspace: Workspace) -> None:
    merged = weights(run(workspace, "first", base) / "merged")
    write_manifest(merged)
    start = starting_point(resolve("first/merged", workspace), workspace, adapter=True)
    assert (start.ref, start.base, start.adapter, start.origin) == ("first/merged", merged, None, None)
    start = starting_point(resolve("first", workspace), workspace, adapter=False)
    assert (start.ref, start.base, start.adapter, start.origin) == ("first", merged, None, None)


@pytest.mark.parametrize(
    ("ref", "words"),
    [
        ("r/other", "accepted are r, r/checkpoint-N"),
        ("r/checkpoint-7", "complete checkpoints: checkpoint-3"),
        ("r/onnx/int8", "builds: none"),
        ("r/merged", "merge it first"),
        ("r/onnx/../../../secret", "build name"),
        ("r/onnx/..", "build name"),
        ("r/checkpoint-3/../../adapter", "accepted are"),
        ("r//etc", "accepted are"),
        ("../secret", "no folder"),
        ("open", "no result yet"),
        ("nothing-here", "runs: "),
        ("", "does not exist"),
        ("a\0b", "does not exist"),
        ("x" * 5000, "does not exist"),
        ("ftp://localhost/v1", "is not accepted"),
        ("owner/..", "does not exist"),
    ],
)
def test_wrong_names(ref: str, words: str, base: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workspace.root.parent)
    folder = run(workspace, "r", base)
    run(workspace, "open", base, result=None)
    write_manifest(adapter(folder / "checkpoints" / "checkpoint-3"))
    adapter(folder / "checkpoints" / "checkpoint-7")  # no manifest: the trainer was still writing it
    weights(workspace.root / "secret")
    assert words in refusal(ref, workspace)


def test_links_do_not_leave_the_workspace(base: Path, workspace: Workspace) -> None:
    folder = run(workspace, "r", base, result=None)
    (folder / "merged").symlink_to(base)
    assert "leads out of the workspace" in refusal("r/merged", workspace)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "phi3small"}, "Phi-3-small"),
        ({"model_type": "phimoe"}, "MoE"),
        ({"model_type": "phi3_v"}, "vision"),
        ({"model_type": "llama"}, "not a Phi-3 model"),
        ({"model_type": None}, "not a Phi-3 model"),
        ({"architectures": ["Phi3ForTokenClassification"]}, "Phi3ForTokenClassification"),
        ({"architectures": ["Phi3ForSequenceClassification"]}, "does not name the labels"),
        ({"architectures": None}, "architectures"),
        ({"rope_scaling": {"type": "su"}}, "newer revision"),
    ],
)
def test_other_models_are_refused(changes: dict[str, object], words: str, tmp_path: Path, workspace: Workspace) -> None:
    assert words in refusal(weights(tmp_path / "other", **changes), workspace)


def test_incomplete_folders_are_refused(tmp_path: Path, workspace: Workspace) -> None:
    folder = write(tmp_path / "m")
    assert "holds no model" in refusal(folder, workspace)
    write(folder, config__json="{")
    assert "cannot be read as JSON" in refusal(folder, workspace)
    write(folder, config__json=[])
    assert "JSON object" in refusal(folder, workspace)
    write(folder, config__json=CONFIG)
    assert "no weights" in refusal(folder, workspace)
    write(folder, pytorch_model__bin="pickle")
    assert "convert to safetensors" in refusal(folder, workspace)
    index = "model__safetensors__index__json"
    write(folder, **{index: {"weight_map": {"a": "../x"}}})
    assert "beside it" in refusal(folder, workspace)
    write(folder, **{index: {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}}, one__safetensors="w")
    assert "lacks two.safetensors" in refusal(folder, workspace)
    write(folder, two__safetensors="w")
    assert "lacks tokenizer.json" in refusal(folder, workspace)
    write(folder, tokenizer__json={})
    assert resolve(str(folder), workspace).kind == "torch"
    assert "is a file" in refusal(folder / "config.json", workspace)


def test_auto_map_is_not_followed(tmp_path: Path, workspace: Workspace) -> None:
    folder = weights(tmp_path / "m", auto_map={"AutoModelForCausalLM": "canary.Model"})
    (folder / "canary.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert resolve(str(folder), workspace).base == folder
    assert not (tmp_path / "ran").exists()


def test_builds(tmp_path: Path, workspace: Workspace) -> None:
    folder = build(tmp_path / "b")
    assert resolve(str(folder), workspace).kind == "onnxruntime-genai"
    write(folder, genai_config__json={"model": {"type": "phi3v", "decoder": {"filename": "model.onnx"}}})
    assert "phi3v" in refusal(folder, workspace)
    write(folder, genai_config__json={"model": {"type": "phi3", "decoder": {"filename": "../model.onnx"}}})
    assert "plain file name" in refusal(folder, workspace)
    write(folder, genai_config__json={})
    assert "does not describe" in refusal(folder, workspace)


def test_adapter_folder(base: Path, tmp_path: Path, workspace: Workspace) -> None:
    ref = resolve(str(adapter(tmp_path / "a", base)), workspace)
    assert (ref.base, ref.adapter) == (base, tmp_path / "a")
    assert "does not say" in refusal(adapter(tmp_path / "b"), workspace)
    assert "does not say" in refusal(adapter(tmp_path / "c", tmp_path / "c"), workspace)
    assert "cannot be loaded" in refusal(adapter(tmp_path / "d", tmp_path / "gone"), workspace)
    write(tmp_path / "a", adapter_config__json={"peft_type": "IA3"})
    assert "only LoRA" in refusal(tmp_path / "a", workspace)


def test_hub_id_offline_says_what_to_do(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    message = refusal("microsoft/Phi-3-mini-4k-instruct", workspace)
    assert "HF_HUB_OFFLINE" in message
    assert "no run and no folder" in message
    assert "malformed" in refusal("owner/a--b", workspace)


def test_hub_id_from_the_cache(base: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def snapshot_download(hub_id: str, **options: object) -> str:
        calls.append((hub_id, options))
        return str(base)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    ref = resolve("microsoft/Phi-3-mini-4k-instruct", workspace)
    assert (ref.ref, ref.label, ref.base) == ("microsoft/Phi-3-mini-4k-instruct",) * 2 + (base,)
    assert calls == [(ref.ref, {"revision": None, "local_files_only": True})]


def test_list(base: Path, workspace: Workspace) -> None:
    first = run(workspace, "first", base)
    weights(first / "merged")
    build(first / "onnx" / "int4")
    (first / "onnx" / ".int8.tmp-1").mkdir()
    run(workspace, "open", base, result=None)
    run(workspace, "orphan", "owner/never-downloaded")
    other = build(workspace.exports / "models" / "phi3-nano" / "onnx" / "fp32")
    found = {ref.ref: ref for ref in list_models(workspace)}
    assert list(found) == ["phi3-nano", "first", "first/merged", "first/onnx/int4", str(other)]
    assert found[str(other)].label == "phi3-nano/onnx/fp32"
    assert all(resolve(name, workspace) == ref for name, ref in found.items())


def test_list_is_cheap(base: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page lists models every second: no heavy import, and settings are read once."""
    for number in range(20):
        run(workspace, f"run-{number}", base)
    code = (
        "import sys; from phi3tune.engines.models import list_models; from phi3tune.paths import Workspace; "
        "assert len(list_models(Workspace.current())) >= 20; "
        "heavy = {'torch', 'transformers', 'numpy', 'onnxruntime_genai', 'peft'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PACKAGE.parent)
    before = list_models(workspace)
    read: list[Path] = []
    read_yaml = models.read_yaml
    monkeypatch.setattr(models, "read_yaml", lambda path: read.append(path) or read_yaml(path))
    assert list_models(workspace) == before
    assert read == []
    changed = workspace.runs / "run-3" / "run.yaml"
    changed.write_text("model: phi3-nano\n")
    os.utime(changed, ns=(1, 1))
    assert list_models(workspace) != before
    assert read == [changed]


def test_verify(base: Path, workspace: Workspace) -> None:
    folder = run(workspace, "r", base)
    ref = resolve("r", workspace)
    with pytest.raises(UserError, match="never completed"):
        verify(ref)
    write_manifest(folder / "adapter")
    verify(ref)
    (folder / "adapter" / "adapter_model.safetensors").write_text("b")
    with pytest.raises(UserError, match=r"adapter_model\.safetensors was altered"):
        verify(ref)
    verify(resolve(str(base), workspace))  # somebody else's folder has no manifest to hold it to


def test_endpoint_is_no_model_of_this_machine(workspace: Workspace) -> None:
    ref = resolve("https://host.example/v1#lamp", workspace)
    assert (ref.ref, ref.label, ref.kind, ref.folder) == ("https://host.example/v1#lamp", "lamp", "remote", None)
    for use in (
        lambda: ref.base,
        lambda: verify(ref),
        lambda: whole_weights(ref, workspace),
        lambda: buildable(ref.ref, "merged", workspace),
        lambda: buildable(ref.ref, "onnx", workspace),
    ):
        with pytest.raises(UserError, match="is an endpoint, whose weights are elsewhere"):
            use()
