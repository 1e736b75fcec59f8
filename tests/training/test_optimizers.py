"""What optimizers and methods need, told before a run starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from transformers.training_args import OptimizerNames

from phi3tune import system
from phi3tune.config import Optimizer, TrainConfig
from phi3tune.engines.models import ModelRef
from phi3tune.errors import ConfigError, UserError
from phi3tune.training import optimizers
from phi3tune.training.settings import ADAPTER_FIELDS, check


@pytest.fixture
def start(tiny_model: Path) -> ModelRef:
    return ModelRef("tiny", "tiny", "torch", tiny_model)


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "gpu_visible", lambda: False)


def problems(name: str, *, gpu: bool = False, **settings: Any) -> list[str]:
    return optimizers.problems(TrainConfig(optimizer=name, **settings), gpu=gpu)  # type: ignore[arg-type]


def test_the_names_are_those_of_transformers() -> None:
    assert set(get_args(Optimizer)) == {name.value for name in OptimizerNames}


@pytest.mark.parametrize("name", get_args(Optimizer))
def test_what_is_missing_is_named_with_a_way_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizers, "find_spec", lambda module: None)
    found = problems(name, scheduler="constant")
    needed = optimizers.NEEDS.get(name)
    assert bool(found) == (needed is not None or name in optimizers.REFUSED)
    for problem in found:
        other = problem.rpartition("use --optimizer ")[2]
        assert other in get_args(Optimizer), problem
        assert other not in optimizers.REFUSED
    if needed is not None:
        assert needed.module in found[0]
        assert needed.install in found[0]


def test_paged_optimizers_need_a_gpu() -> None:
    assert problems("paged_adamw_8bit") == ["--optimizer paged_adamw_8bit needs a GPU; use --optimizer adamw_8bit"]
    assert problems("paged_adamw_8bit", gpu=True) == []
    assert problems("adamw_8bit") == []


def test_a_schedule_free_optimizer_takes_no_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizers, "find_spec", lambda module: object())
    assert "use --scheduler constant" in problems("schedule_free_adamw")[0]
    assert problems("schedule_free_adamw", scheduler="constant") == []


def test_all_that_is_missing_is_told_together(start: ModelRef) -> None:
    config = TrainConfig(optimizer="paged_lion_8bit", dtype="fp16", method="last_layers", last_layers=9)
    with pytest.raises(ConfigError) as caught:
        check(config, start)
    told = "; ".join(caught.value.problems)
    assert len(caught.value.problems) == 3
    assert "--optimizer lion_8bit" in told
    assert "--dtype fp16 needs a GPU" in told
    assert "--last-layers 9 is more than the 2 that tiny has" in told


def adapter_of(folder: Path, **settings: Any) -> Path:
    plain = {"r": 4, "lora_alpha": 8, "target_modules": ["o_proj", "qkv_proj"], "peft_type": "LORA"}
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({**plain, **settings}))
    return folder


def test_the_settings_of_an_adapter_are_taken_over(start: ModelRef, tmp_path: Path) -> None:
    folder = adapter_of(tmp_path / "adapter", use_dora=True, layers_to_transform=[1])
    ref = ModelRef("run", "run", "torch", start.folder, folder)
    config = check(TrainConfig(dataset="d", last_layers=1), ref)
    taken = {name: getattr(config, name) for name in ADAPTER_FIELDS}
    assert taken == {
        "lora_rank": 4,
        "lora_alpha": 8.0,
        "use_rslora": False,
        "use_dora": True,
        "init": "default",
        "target_modules": ["qkv_proj", "o_proj"],
        "last_layers": 1,
        "task": "chat",
    }
    assert check(config, ref) == config


def test_a_setting_that_contradicts_the_adapter_is_refused(start: ModelRef, tmp_path: Path) -> None:
    ref = ModelRef("run", "run", "torch", start.folder, adapter_of(tmp_path / "adapter"))
    with pytest.raises(ConfigError) as caught:
        check(TrainConfig(lora_rank=8, init="pissa"), ref)
    assert [problem.split(" contradicts")[0] for problem in caught.value.problems] == ["--lora-rank 8", "--init pissa"]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"rank_pattern": {"o_proj": 2}}, "rank_pattern"),
        ({"target_modules": "all-linear"}, "target_modules"),
        ({"layers_to_transform": [0]}, "layers_to_transform"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
    ],
)
def test_an_adapter_that_the_settings_cannot_tell_is_refused(
    start: ModelRef, tmp_path: Path, settings: dict[str, Any], named: str
) -> None:
    ref = ModelRef("run", "run", "torch", start.folder, adapter_of(tmp_path / "adapter", **settings))
    with pytest.raises(UserError, match=f"cannot be trained on for its {named}"):
        check(TrainConfig(), ref)
