from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from phi3tune.config import TARGET_MODULES
from phi3tune.errors import UserError
from phi3tune.export.merge import adapter_hash, is_current, merge, write_model_files
from phi3tune.paths import manifest_problem
from tests.fake_runs import lora_adapter
from tests.fakes import tiny_phi3


def merged_by_peft(base: Path, adapter: Path, folder: Path) -> dict[str, torch.Tensor]:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter)
    model.merge_and_unload().save_pretrained(folder)
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_rslora": True},
        {"rank_pattern": {"layers.1.mlp.down_proj": 2}, "alpha_pattern": {"o_proj": 32}},
        {"modules": ("qkv_proj", "o_proj")},
        {"use_dora": True, "use_rslora": True},
        {"modules_to_save": ["lm_head", "embed_tokens"]},
        {"modules_to_save": ["norm"]},
    ],
    ids=["lora", "rslora", "patterns", "two modules", "dora", "whole embeddings and head", "whole norm"],
)
def test_equals_peft(tiny_model: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    adapter = lora_adapter(tiny_model, tmp_path / "adapter", **settings)
    whole = {f"{module}.weight" for module in settings.get("modules_to_save", [])}
    if whole:  # as trained: peft begins with copies of the base's
        change_whole_modules(adapter)
    merge(tiny_model, adapter, tmp_path / "merged")
    ours = load_file(tmp_path / "merged" / "model.safetensors")
    theirs = merged_by_peft(tiny_model, adapter, tmp_path / "peft")
    base = load_file(tiny_model / "model.safetensors")
    assert ours.keys() == theirs.keys()
    assert max((ours[key] - theirs[key]).abs().max().item() for key in ours) < 1e-6
    changed = {key for key in ours if not torch.equal(ours[key], base[key])}
    modules = tuple(f"{module}.weight" for module in settings.get("modules", TARGET_MODULES))
    assert changed == {key for key in base if key.endswith((*modules, *whole))}
    assert manifest_problem(tmp_path / "merged") is None


def change_whole_modules(adapter: Path) -> None:
    path = adapter / "adapter_model.safetensors"
    tensors = load_file(path)
    save_file({key: each if ".lora_" in key else each + 0.01 for key, each in tensors.items()}, path)


def test_converted_pissa_equals_peft(tiny_model: Path, tmp_path: Path) -> None:
    """As training saves it: a plain LoRA of twice the rank on the untouched base."""
    from peft import LoraConfig, get_peft_model
    from transformers import Phi3ForCausalLM

    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules=list(TARGET_MODULES), task_type="CAUSAL_LM", init_lora_weights="pissa")
    model = get_peft_model(Phi3ForCausalLM.from_pretrained(tiny_model), config)
    model.peft_config["default"].init_lora_weights = True  # what is saved first is only the matrices
    model.save_pretrained(tmp_path / "begun")
    model.peft_config["default"].init_lora_weights = "pissa"
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data += 0.01 * torch.randn_like(parameter)
    adapter = tmp_path / "adapter"
    model.save_pretrained(adapter, path_initial_model_for_weight_conversion=str(tmp_path / "begun"))
    assert json.loads((adapter / "adapter_config.json").read_text())["r"] == 8
    merge(tiny_model, adapter, tmp_path / "merged")
    ours = load_file(tmp_path / "merged" / "model.safetensors")
    theirs = merged_by_peft(tiny_model, adapter, tmp_path / "peft")
    assert ours.keys() == theirs.keys()
    assert max((ours[key] - theirs[key]).abs().max().item() for key in ours) < 1e-6


@pytest.mark.parametrize("module", ["lm_head", "embed_tokens"])
def test_tied_weights_part_where_only_one_changes(tmp_path: Path, module: str) -> None:
    from transformers import AutoModelForCausalLM

    base = tiny_phi3(tmp_path / "base", tie_word_embeddings=True)
    adapter = lora_adapter(base, tmp_path / "adapter", modules_to_save=[module])
    change_whole_modules(adapter)
    merge(base, adapter, tmp_path / "merged")
    ours = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").state_dict()
    merged_by_peft(base, adapter, tmp_path / "peft")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "peft").state_dict()
    assert ours.keys() == theirs.keys()
    assert max((ours[key] - theirs[key]).abs().max().item() for key in ours) < 1e-6
    assert not torch.equal(ours["lm_head.weight"], ours["model.embed_tokens.weight"])


def test_rounds_once_to_the_stored_dtype(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    base = tiny_phi3(tmp_path / "base")
    AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).save_pretrained(base)
    adapter = lora_adapter(base, tmp_path / "adapter")
    merge(base, adapter, tmp_path / "merged")
    ours = load_file(tmp_path / "merged" / "model.safetensors")
    theirs = merged_by_peft(base, adapter, tmp_path / "peft")
    assert all(tensor.dtype == torch.bfloat16 for tensor in ours.values())
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_several_shards(tiny_model: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    sharded = tmp_path / "sharded"
    shutil.copytree(tiny_model, sharded)
    (sharded / "model.safetensors").unlink()
    AutoModelForCausalLM.from_pretrained(tiny_model).save_pretrained(sharded, max_shard_size="5MB")
    shards = {path.name for path in sharded.glob("model-*.safetensors")}
    assert len(shards) > 1
    adapter = lora_adapter(tiny_model, tmp_path / "adapter")
    merge(sharded, adapter, tmp_path / "merged")
    merge(tiny_model, adapter, tmp_path / "whole")
    assert {path.name for path in (tmp_path / "merged").glob("model-*.safetensors")} == shards
    ours = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").state_dict()
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "whole").state_dict()
    assert all(torch.equal(ours[key], whole[key]) for key in whole)


def test_tied_weights_stay_one_tensor(tmp_path: Path) -> None:
    base = tiny_phi3(tmp_path / "base", tie_word_embeddings=True)
    adapter = lora_adapter(base, tmp_path / "adapter")
    merge(base, adapter, tmp_path / "merged")
    assert "lm_head.weight" not in load_file(tmp_path / "merged" / "model.safetensors")
    assert json.loads((tmp_path / "merged" / "config.json").read_text())["tie_word_embeddings"] is True


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa'"),
        ({"lora_bias": True}, "lora_bias=True"),
    ],
)
def test_refuses_other_kinds(tiny_model: Path, tmp_path: Path, settings: dict[str, Any], named: str) -> None:
    adapter = lora_adapter(tiny_model, tmp_path / "adapter", **settings)
    with pytest.raises(UserError, match=named):
        merge(tiny_model, adapter, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_refuses_the_adapter_of_another_base(tiny_model: Path, tmp_path: Path) -> None:
    deeper = tiny_phi3(tmp_path / "deeper", num_hidden_layers=3)
    adapter = lora_adapter(deeper, tmp_path / "adapter")
    with pytest.raises(UserError, match=r"layers\.2"):
        merge(tiny_model, adapter, tmp_path / "merged")


def test_refuses_the_adapter_of_another_shape(tiny_model: Path, tmp_path: Path) -> None:
    adapter = lora_adapter(tiny_phi3(tmp_path / "wider", hidden_size=128), tmp_path / "adapter")
    with pytest.raises(UserError, match="shape"):
        merge(tiny_model, adapter, tmp_path / "merged")
    assert list(tmp_path.glob(".merged*")) == []


def test_refuses_an_adapter_of_a_training_that_diverged(tiny_model: Path, tmp_path: Path) -> None:
    adapter = lora_adapter(tiny_model, tmp_path / "adapter")
    tensors = load_file(adapter / "adapter_model.safetensors")
    next(iter(tensors.values()))[0, 0] = torch.nan
    save_file(tensors, adapter / "adapter_model.safetensors")
    with pytest.raises(UserError, match="diverged"):
        merge(tiny_model, adapter, tmp_path / "merged")


def test_refuses_a_damaged_shard(tiny_model: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_model, base)
    with (base / "model.safetensors").open("r+b") as stream:
        stream.truncate(1000)
    adapter = lora_adapter(tiny_model, tmp_path / "adapter")
    with pytest.raises(UserError, match="cannot be read as safetensors"):
        merge(base, adapter, tmp_path / "merged")


def test_tells_bytes_written_and_ends_when_told(tiny_model: Path, tmp_path: Path) -> None:
    adapter, told = lora_adapter(tiny_model, tmp_path / "adapter"), []
    merge(tiny_model, adapter, tmp_path / "merged", lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1]
    assert 0 <= (tmp_path / "merged" / "model.safetensors").stat().st_size - told[-1][1] < 10_000

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge(tiny_model, adapter, tmp_path / "stopped", stop)
    assert [path.name for path in tmp_path.iterdir() if "stopped" in path.name] == []


@pytest.mark.slow
def test_a_shard_is_never_in_memory(tmp_path: Path) -> None:
    """The peak of a process that merges 256 MB stays below that of one that holds them."""
    base = tmp_path / "base"
    tiny_phi3(base, hidden_size=1024, intermediate_size=4096, num_hidden_layers=1)
    assert (base / "model.safetensors").stat().st_size > 250e6
    lora_adapter(base, tmp_path / "adapter")
    code = (
        "import resource, sys; from pathlib import Path; from phi3tune.export.merge import merge;"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; merge(*map(Path, sys.argv[1:]));"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, str(base), str(tmp_path / "adapter"), str(tmp_path / "merged")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(told.stdout) < 100 * 1024  # in KiB


def test_reused_only_while_whole_and_of_the_same_adapter(tiny_model: Path, tmp_path: Path) -> None:
    adapter, merged = lora_adapter(tiny_model, tmp_path / "adapter"), tmp_path / "merged"
    assert not is_current(merged, adapter)
    merge(tiny_model, adapter, merged)
    assert is_current(merged, adapter)
    before = adapter_hash(adapter)
    lora_adapter(tiny_model, adapter, lora_alpha=16)
    assert adapter_hash(adapter) != before
    assert not is_current(merged, adapter)
    merge(tiny_model, adapter, merged)
    with (merged / "model.safetensors").open("r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"\x7f")
    assert not is_current(merged, adapter)


def test_config_loses_code_references_and_gains_end_tokens(tiny_model: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_model, base)
    config = json.loads((base / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "canary.Canary"}
    (base / "config.json").write_text(json.dumps(config))
    (base / "generation_config.json").write_text(json.dumps({"eos_token_id": 32000, "pad_token_id": 32000}))
    out = tmp_path / "out"
    out.mkdir()
    write_model_files(base, out)
    assert "auto_map" not in json.loads((out / "config.json").read_text())
    assert json.loads((out / "generation_config.json").read_text())["eos_token_id"] == [32000, 32007]
    write_model_files(tiny_model, out)
    assert json.loads((out / "generation_config.json").read_text())["eos_token_id"] == [32000, 32001, 32007]
    (base / "generation_config.json").unlink()
    write_model_files(base, out)
    assert json.loads((out / "generation_config.json").read_text())["eos_token_id"] == [32000, 32007]
