from __future__ import annotations

from pathlib import Path

import pytest

from phi3tune import config
from phi3tune.config import DatasetConfig, EvalConfig, ExportConfig, SamplingConfig, TrainConfig
from phi3tune.errors import ConfigError, UserError

MODELS = [DatasetConfig, TrainConfig, EvalConfig, ExportConfig, SamplingConfig]


@pytest.mark.parametrize("model", MODELS)
def test_every_setting_has_a_sentence_and_a_unit(model: type[config.Config]) -> None:
    for name, field in model.model_fields.items():
        assert field.description and field.description.endswith("."), name
        extra = field.json_schema_extra
        assert isinstance(extra, dict) and extra["unit"], name
        assert extra["group"] in ("simple", "advanced"), name


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        config.parse(TrainConfig, {"learning_rate": -1, "epochs": 0, "metod": "lora", "batch_size": "many"})
    text = str(caught.value)
    assert len(caught.value.problems) == 4
    for part in ("--learning-rate -1", "--epochs 0", "'metod' is not a setting", "--batch-size 'many'"):
        assert part in text
    assert "\n" not in text


def test_not_a_number_is_refused() -> None:
    with pytest.raises(ConfigError, match="learning-rate"):
        config.parse(TrainConfig, {"learning_rate": float("nan")})


def test_columns_from_text() -> None:
    parsed = config.parse(DatasetConfig, {"columns": "user=question, assistant=answer"})
    assert parsed.columns == {"user": "question", "assistant": "answer"}
    with pytest.raises(ConfigError, match="--columns"):
        config.parse(DatasetConfig, {"columns": "question"})


def test_yaml_round_trip(tmp_path: Path) -> None:
    settings = config.parse(TrainConfig, {"dataset": "lantern-support", "columns": {"user": "q"}, "epochs": 2})
    path = tmp_path / "run.yaml"
    path.write_text(config.to_yaml(settings))
    assert config.parse(TrainConfig, config.read_yaml(path)) == settings


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1\n", "1: 2\n"])
def test_a_bad_settings_file_is_one_clear_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        config.read_yaml(path)
    assert "run.yaml" in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_settings_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        config.read_yaml(tmp_path / "none.yaml")


def test_a_block_size_is_a_number_however_it_is_given() -> None:
    for given in (64, "64"):
        assert config.parse(ExportConfig, {"model": "lamp", "block_size": given}).block_size == 64
    assert config.parse(ExportConfig, {"model": "lamp"}).block_size is None
    with pytest.raises(ConfigError, match="--block-size 'wide' is not accepted"):
        config.parse(ExportConfig, {"model": "lamp", "block_size": "wide"})
