"""A merged classifier equals peft's: the adapter's deltas in the base, and its head in place of the old one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import Phi3ForCausalLM, Phi3ForSequenceClassification

from phi3tune.engines.folders import labels_of, task_of
from phi3tune.engines.models import resolve
from phi3tune.export.merge import merge
from phi3tune.paths import Workspace
from tests.fake_classifiers import LABELS, classifier_adapter, whole_classifier
from tests.fakes import tiny_phi3


def sharded(folder: Path, base: Path) -> Path:
    """The same weights in shards of a few hundred kilobytes."""
    Phi3ForCausalLM.from_pretrained(base).save_pretrained(folder, max_shard_size="400KB")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((base / name).read_bytes())
    return folder


@pytest.mark.parametrize("form", ["one file", "shards", "classifier"])
def test_merged_weights_are_pefts(form: str, tmp_path: Path, workspace: Workspace) -> None:
    base = tiny_phi3(tmp_path / "tiny", tie_word_embeddings=False)
    if form == "shards":
        base = sharded(tmp_path / "base", base)
    elif form == "classifier":
        base = whole_classifier(tmp_path / "base", base)
    model = classifier_adapter(tmp_path / "adapter", base, seed=5)
    merge(base, tmp_path / "adapter", tmp_path / "merged")
    merged = tmp_path / "merged"
    assert resolve(str(merged), workspace).task == task_of(merged) == "classification"
    assert labels_of(merged) == LABELS
    ours, report = Phi3ForSequenceClassification.from_pretrained(merged, dtype=torch.float32, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    ids = torch.tensor([[32010, 6324, 727, 32007, 32001]])
    with torch.no_grad():
        expected = model(input_ids=ids).logits
        assert torch.allclose(ours.eval()(input_ids=ids).logits, expected, atol=1e-5)
    if form == "shards":
        index = json.loads((merged / "model.safetensors.index.json").read_text())["weight_map"]
        stored = {key: path.name for path in merged.glob("*.safetensors") for key in load_file(path)}
        assert index == stored and len(set(index.values())) > 1
