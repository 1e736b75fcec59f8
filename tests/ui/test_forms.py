from __future__ import annotations

import gradio as gr
import pytest

from phi3tune.config import Config, EvalConfig, ExportConfig, SamplingConfig, TrainConfig
from phi3tune.errors import ConfigError
from phi3tune.ui import forms

MODELS: list[type[Config]] = [TrainConfig, EvalConfig, ExportConfig, SamplingConfig]
FORMS = [(model, name) for model in MODELS for name in model.model_fields if name not in ("model", "models")]


@pytest.mark.parametrize(("model", "name"), FORMS)
def test_widget_holds_the_default_and_says_what_it_is(model: type[Config], name: str) -> None:
    widget = forms.widget(model, name)
    assert widget.label
    assert widget.info.startswith(model.model_fields[name].description)
    default = model.model_fields[name].get_default(call_default_factory=True)
    assert forms.changed(model, [name], [widget.value]) == 0
    assert getattr(forms.read(model, [name], [widget.value], **_required(model, name)), name) == default


def _required(model: type[Config], name: str) -> dict[str, str]:
    return {"model": "phi3-nano"} if model is ExportConfig and name != "model" else {}


def test_numbers_show_unit_and_range() -> None:
    assert forms.sentence(TrainConfig, "epochs").endswith("Epochs: above 0, at most 1,000.")
    assert forms.sentence(TrainConfig, "method").endswith("presets of the settings below.")


def test_labels_are_plain_english() -> None:
    assert [forms.label(name) for name in ("lora_rank", "top_p", "max_new_tokens")] == [
        "LoRA rank",
        "Top p",
        "Max new tokens",
    ]


def test_every_mistake_is_told_by_its_label() -> None:
    with pytest.raises(ConfigError) as caught:
        forms.read(TrainConfig, ["lora_rank", "epochs", "max_steps"], [0, None, "many"])
    rank, epochs, steps = sorted(caught.value.problems, key=lambda text: text[0] != "L")
    assert rank.startswith("LoRA rank: 0 is not accepted:")
    assert epochs.startswith("Epochs: ")
    assert steps.startswith("Max steps: 'many' is not accepted:")


def test_empty_boxes_mean_not_given_and_text_numbers_are_numbers() -> None:
    config = forms.read(TrainConfig, ["name", "max_steps", "learning_rate", "columns"], ["", " ", "2e-4", "user=q"])
    assert (config.name, config.max_steps, config.learning_rate, config.columns) == (None, None, 2e-4, {"user": "q"})


def test_changed_counts_what_differs() -> None:
    names = ["epochs", "max_steps", "packing", "columns"]
    assert forms.changed(TrainConfig, names, [3, "", True, ""]) == 0
    assert forms.changed(TrainConfig, names, [4, "10", False, ""]) == 3


def test_groups_cover_every_setting_once() -> None:
    for model in MODELS:
        both = forms.fields(model, "simple") + forms.fields(model, "advanced")
        assert sorted(both) == sorted(model.model_fields)


def test_few_choices_are_shown_at_once() -> None:
    assert isinstance(forms.widget(TrainConfig, "task"), gr.Radio)
    assert isinstance(forms.widget(TrainConfig, "format"), gr.Dropdown)
