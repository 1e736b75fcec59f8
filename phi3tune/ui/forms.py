"""Widgets made from the fields of `phi3tune.config`: label, sentence, unit, range and default.

Their texts are made, not written, so the catalogue of translations gets them from `texts`.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterator, Sequence
from typing import Any, Literal, TypeAlias, TypeVar, Union, get_args, get_origin

import gradio as gr
from pydantic.fields import FieldInfo

from phi3tune.config import (
    Config,
    DownloadConfig,
    EvalConfig,
    ExportConfig,
    PromptsConfig,
    SamplingConfig,
    ServeConfig,
    TrainConfig,
    flag,
    limits,
    parse,
    sections,
)
from phi3tune.errors import ConfigError
from phi3tune.ui.words import t, told

C = TypeVar("C", bound=Config)
ACRONYMS = {
    "lora": "LoRA", "top_p": "Top p", "dtype": "Number format", "use_rslora": "rsLoRA", "use_dora": "DoRA",
    "loraplus_ratio": "LoRA+ ratio", "init": "Adapter's first values", "base_bits": "Bits of the base",
    "neftune_alpha": "NEFTune alpha", "max_grad_norm": "Max gradient norm", "dft": "DFT", "micro_batch": "Micro batch",
    "adam_beta1": "Adam beta 1", "adam_beta2": "Adam beta 2", "max_unlearnable_share": "Rows without answer",
    "stop": "Stop texts",
}  # fmt: skip
# The configs whose settings the page shows.
SHOWN: tuple[type[Config], ...] = (
    TrainConfig, EvalConfig, ExportConfig, SamplingConfig, ServeConfig, DownloadConfig, PromptsConfig,
)  # fmt: skip
OPTIONAL = "may stay empty"
# Choices that are words; all others are names, the same in every language.
SPOKEN = {
    "auto", "on", "off", "none", "default", "fast", "balanced", "thorough", "chat", "classification", "refuse", "drop",
    "as_stored", "full", "last_layers", "cross_entropy", "text", "messages", "question_answer", "prompt_completion",
    "merged", "train", "validation", "test",
}  # fmt: skip

# What a setting is shown as.
Widget: TypeAlias = gr.Radio | gr.Dropdown | gr.Checkbox | gr.CheckboxGroup | gr.Number | gr.Textbox


def texts() -> Iterator[str]:
    """Every text that is made here of the settings, in English: labels, sentences, choices, titles of groups."""
    yield OPTIONAL
    for config in SHOWN:
        yield from sections(config)
        for name in config.model_fields:
            yield from (_label(name), _sentence(config, name))
    yield from sorted(SPOKEN)


def label(field: str) -> str:
    """`lora_rank` -> `LoRA rank`, in the reader's language."""
    return t(_label(field))


def _label(field: str) -> str:
    if field in ACRONYMS:
        return ACRONYMS[field]
    first, *rest = field.split("_")
    return " ".join([ACRONYMS.get(first, first.capitalize()), *rest])


def fields(config: type[Config], group: str, without: Sequence[str] = ()) -> list[str]:
    """Names of the settings of one group, `simple` or `advanced`, in order of definition."""
    named = config.model_fields.items()
    return [name for name, info in named if _extra(info)["group"] == group and name not in without]


def _extra(info: FieldInfo) -> dict[str, Any]:
    extra = info.json_schema_extra
    assert isinstance(extra, dict), "every setting is made by config.setting"
    return extra


def _kind(info: FieldInfo) -> tuple[Any, bool]:
    """The annotation without `| None`, and whether None was allowed."""
    annotation = info.annotation
    if get_origin(annotation) in (Union, types.UnionType):
        inner = [arg for arg in get_args(annotation) if arg is not type(None)]
        return inner[0], True
    return annotation, False


def sentence(config: type[Config], field: str) -> str:
    """What the form says under a setting, in the reader's language: its sentence, then unit and range for a number."""
    return t(_sentence(config, field))


def _sentence(config: type[Config], field: str) -> str:
    info = config.model_fields[field]
    kind, _ = _kind(info)
    text = info.description or ""
    if kind not in (int, float):
        return text
    unit = _extra(info)["unit"]
    return f"{text} {unit[0].upper()}{unit[1:]}: {limits(info)}."


def widget(config: type[Config], field: str, **options: Any) -> Widget:
    """The widget of one setting, holding its default."""
    info = config.model_fields[field]
    kind, optional = _kind(info)
    common: dict[str, Any] = {
        "label": label(field),
        "info": sentence(config, field),
        "elem_id": f"set-{field.replace('_', '-')}",
        **options,
    }
    default = info.get_default(call_default_factory=True)
    if get_origin(kind) is Literal:
        choices = _named(get_args(kind))
        if len(choices) <= 3:
            return gr.Radio(choices, value=default, **common)
        return gr.Dropdown(choices, value=default, **common)
    if names := _choices_of_list(kind):
        return gr.CheckboxGroup(_named(names), value=default, **common)
    if kind is bool:
        return gr.Checkbox(value=default, **common)
    if kind in (int, float) and not optional:
        # Out of range is told by `read`, with the setting's name; Gradio's own message has none.
        step = 1.0 if kind is int else 0.01
        return gr.Number(value=default, precision=0 if kind is int else None, step=step, **common)
    # An empty number box shows 0 in Gradio, so that what may be left out is typed as text.
    lines = 4 if _extra(info)["unit"] == "text" else 1
    hint = t(OPTIONAL) if optional or kind is not str else None
    return gr.Textbox(
        value=as_shown(config, field, default), placeholder=hint, lines=min(lines, 2), max_lines=lines, **common
    )


def _named(values: Sequence[Any]) -> list[tuple[str, Any]]:
    """Choices under names in the reader's language."""
    return [(t(value) if value in SPOKEN else str(value), value) for value in values]


def _choices_of_list(kind: Any) -> list[str]:
    """What a list may hold, where that is a set of names; empty for every other type."""
    item = get_args(kind)[0] if get_origin(kind) is list else None
    return list(get_args(item)) if get_origin(item) is Literal else []


def as_shown(config: type[Config], field: str, value: Any) -> Any:
    """A setting's value as its widget holds it: what is typed as text becomes text."""
    kind, optional = _kind(config.model_fields[field])
    if value is None:
        return ""
    if isinstance(value, dict):
        return ",".join(f"{key}={item}" for key, item in value.items())
    if isinstance(value, list) and not _choices_of_list(kind):
        return ",".join(value)
    return str(value) if optional else value


def read(config: type[C], names: Sequence[str], values: Sequence[Any], **more: Any) -> C:
    """The settings of a form; `ConfigError` naming every wrong one by its label.

    An empty box means "not given" where a setting may be left out.
    """
    given = {}
    for name, value in zip(names, values, strict=True):
        _, optional = _kind(config.model_fields[name])
        given[name] = None if optional and isinstance(value, str) and not value.strip() else value
    try:
        return parse(config, {**given, **more})
    except ConfigError as error:
        raise ConfigError(_labelled(problem, config) for problem in error.problems) from None


def _labelled(problem: str, config: type[Config]) -> str:
    """A problem in the reader's language, with the labels of the form in place of flags."""
    first = next((name for name in config.model_fields if problem.startswith(flag(name) + " ")), None)
    if first is not None:
        problem = f"{label(first)}:{problem.removeprefix(flag(first))}"
    names = {flag(name): label(name) for name in config.model_fields}
    return told(re.sub(r"--[a-z0-9-]+", lambda found: names.get(found[0], found[0]), problem))


def changed(config: type[Config], names: Sequence[str], values: Sequence[Any]) -> int:
    """How many settings differ from their defaults."""
    count = 0
    for name, value in zip(names, values, strict=True):
        info = config.model_fields[name]
        default = as_shown(config, name, info.get_default(call_default_factory=True))
        count += (value or "") != (default or "")
    return count
