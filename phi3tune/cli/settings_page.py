"""The settings page of the docs, made from the config: `python -m phi3tune.cli.settings_page > docs/settings.md`."""

from __future__ import annotations

import sys
from typing import Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from phi3tune.cli.flags import shown
from phi3tune.config import (
    Config,
    DatasetConfig,
    EvalConfig,
    ExportConfig,
    PromptsConfig,
    SamplingConfig,
    ServeConfig,
    TrainConfig,
    flag,
    limits,
)

SECTIONS: list[tuple[str, type[Config], tuple[str, ...]]] = [
    ("Data: `phi3tune data check`, `train` and `evaluate`", DatasetConfig, ()),
    ("Training: `phi3tune train`", TrainConfig, tuple(DatasetConfig.model_fields)),
    ("Evaluation: `phi3tune evaluate`", EvalConfig, tuple(DatasetConfig.model_fields)),
    ("Export: `phi3tune export`", ExportConfig, ()),
    ("Endpoint: `phi3tune serve`", ServeConfig, ()),
    ("Answers: `phi3tune chat` and the playground", SamplingConfig, ()),
    ("Many prompts: `phi3tune prompts`", PromptsConfig, tuple(SamplingConfig.model_fields)),
]


def settings_page() -> str:
    """Markdown: a table for each group of settings."""
    parts = [
        "# Settings",
        "",
        "Made from the code by `make docs`. A setting has the same name as a flag, as a line of a YAML file given with "
        "`--config`, and as a keyword in Python; on the page it has the same sentence.",
    ]
    for title, model, known in SECTIONS:
        parts += ["", f"## {title}", "", "| setting | what it does | unit and range | default |", "|---|---|---|---|"]
        parts += [_row(name, field) for name, field in model.model_fields.items() if name not in known]
    return "\n".join(parts) + "\n"


def _row(name: str, field: FieldInfo) -> str:
    extra = field.json_schema_extra
    facts = [str(extra["unit"]) if isinstance(extra, dict) else "", limits(field)]
    if get_origin(field.annotation) is Literal:
        facts.append("one of " + ", ".join(map(str, get_args(field.annotation))))
    default = field.get_default(call_default_factory=True)
    value = "" if default in (None, "", {}, []) else f"`{shown(default)}`"
    return f"| `{flag(name)}` | {field.description} | {'; '.join(fact for fact in facts if fact)} | {value} |"


if __name__ == "__main__":
    sys.stdout.write(settings_page())
