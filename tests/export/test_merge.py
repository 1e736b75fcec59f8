from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

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
    ],
    ids=["lora", "rslora", "patterns", "two modules", "dora"],
)
def test_equals_peft(tiny_model: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    adapter = lora_adapter(tiny_model, tmp_path / "adapter", **settings)
    merge(tiny_model, adapter, tmp_path / "merged")
    ours = load_file(tmp_path / "merged" / "model.safetensors")
    theirs = merged_by_peft(tiny_model, adapter, tmp_path / "peft")
    base = load_file(tiny_model / "model.safetensors")
    assert ours.keys() == theirs.keys()
    assert max((ours[key] - theirs[key]).abs().max().item() for key in ours) < 1e-5
    changed = {key for key in ours if not torch.equal(ours[key], base[key])}
    modules = settings.get("modules", TARGET_MODULES)
    assert changed == {key for key in base if key.removesuffix(".weight").endswith(tuple(modules))}
    assert manifest_problem(tmp_path / "merged") is None


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
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
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
