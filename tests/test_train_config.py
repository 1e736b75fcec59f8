"""What the settings of a run stand for: presets, combinations that cannot be, the equal command."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from phi3tune.cli import main
from phi3tune.config import (
    PRESETS,
    QUALITY,
    Method,
    TrainConfig,
    arguments,
    differing,
    parse,
    read_yaml,
    sections,
    to_yaml,
)
from phi3tune.errors import ConfigError, UserError


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_lora_or_full_with_other_settings(name: str) -> None:
    config = parse(TrainConfig, {"method": name})
    assert config.method in ("lora", "full")
    assert {field: getattr(config, field) for field in PRESETS[name]} == PRESETS[name]


def test_every_method_is_plain_or_a_preset() -> None:
    assert set(get_args(Method)) == {"lora", "full", *PRESETS}


def test_what_is_given_beside_a_preset_wins() -> None:
    config = parse(TrainConfig, {"method": "loraplus", "loraplus_ratio": 4.0, "quality": "thorough", "lora_rank": 2})
    assert (config.loraplus_ratio, config.lora_rank, config.keep_best) == (4.0, 2, True)


@pytest.mark.parametrize("method", get_args(Method))
@pytest.mark.parametrize("quality", QUALITY)
def test_every_method_has_every_quality(method: str, quality: str) -> None:
    again = parse(TrainConfig, {"method": method, "quality": quality}).model_dump()
    assert parse(TrainConfig, again).model_dump() == again


IMPOSSIBLE: list[tuple[dict[str, Any], str]] = [
    ({"method": "full", "use_dora": True}, "--use-dora belong to adapters; use --method lora"),
    ({"method": "qlora", "init": "pissa"}, "use --init default"),
    ({"method": "dora", "init": "olora"}, "use --init default"),
    ({"target_modules": ["lm_head"]}, "leave them out or use --method full"),
    ({"method": "loraplus", "optimizer": "adafactor"}, "use --optimizer adamw_torch"),
    ({"task": "classification", "loss": "dft"}, "use --loss cross_entropy"),
    ({"best_metric": "eval_macro_f1"}, "use eval_loss or eval_token_accuracy"),
    ({"batch_size": 8, "micro_batch": 3}, "choose a divisor"),
    ({"loss": "dft", "label_smoothing": 0.1}, "use one of them"),
    ({"early_stopping": 2, "validation_share": 0.0}, "raise --validation-share"),
    ({"processes": 3}, "use a multiple of 3"),
    ({"machine_rank": 1}, "must be below --machines 1"),
    ({"sharding": "fsdp"}, "raise --processes"),
]


@pytest.mark.parametrize(("given", "way_out"), IMPOSSIBLE)
def test_what_cannot_be_together_is_refused_with_a_way_out(given: dict[str, Any], way_out: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(TrainConfig, given)
    assert len(caught.value.problems) == 1
    assert way_out in caught.value.problems[0]


def test_all_conflicts_are_told_together() -> None:
    given = {
        "method": "full",
        "use_dora": True,
        "batch_size": 8,
        "micro_batch": 3,
        "loss": "dft",
        "label_smoothing": 0.1,
    }
    with pytest.raises(ConfigError) as caught:
        parse(TrainConfig, given)
    assert len(caught.value.problems) == 3


CHANGED = {
    "dataset": "lantern-support", "method": "dora", "quality": "fast", "epochs": 0.5, "packing": False, "tags": "a,b",
    "columns": "user=question,assistant=answer", "note": "two words", "max_steps": 7, "target_modules": ["qkv_proj"],
}  # fmt: skip


def test_the_equal_command_gives_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    from phi3tune.cli import train

    config = parse(TrainConfig, CHANGED)
    submitted: list[TrainConfig] = []

    def submit(kind: str, config: TrainConfig, *_: Any) -> None:
        submitted.append(config)
        raise UserError("that is all")

    monkeypatch.setattr(train.jobs, "submit", submit)
    assert main(["train", "--detach", *arguments(config)]) == 2
    assert submitted == [config]


def test_yaml_gives_the_same_settings(tmp_path: Any) -> None:
    config = parse(TrainConfig, CHANGED)
    path = tmp_path / "run.yaml"
    path.write_text(to_yaml(config))
    assert parse(TrainConfig, read_yaml(path)) == config


def test_nothing_differs_from_the_defaults_in_the_defaults() -> None:
    assert differing(TrainConfig()) == {}


def test_every_setting_is_in_one_section() -> None:
    fields = [name for names in sections(TrainConfig).values() for name in names]
    assert fields == list(TrainConfig.model_fields)
