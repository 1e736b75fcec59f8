"""What every group of settings is made of: strict models, ranges in words, one error for all mistakes, YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from phi3tune.errors import ConfigError, UserError


def setting(default: Any, sentence: str, *, unit: str, group: str = "advanced", **limits: Any) -> Any:
    """A field with its unit and one sentence. `group` is `simple` or `advanced` (the page's forms)."""
    return Field(default, description=sentence, json_schema_extra={"unit": unit, "group": group}, **limits)


class Config(BaseModel):
    """Settings are strict about names: an unknown one is an error, not a silence."""

    model_config = ConfigDict(extra="forbid", validate_default=True, allow_inf_nan=False)

    def conflicts(self) -> list[str]:
        """Settings that are right each by itself and cannot be together, in words with a way out."""
        return []


C = TypeVar("C", bound=Config)


def sections(config: type[Config]) -> dict[str, list[str]]:
    """Titles of the groups that a config is made of, and the fields of each, in order of definition."""
    found: dict[str, list[str]] = {}
    for part in reversed(config.__mro__):
        own = [name for name in config.model_fields if name in vars(part).get("__annotations__", {})]
        if own:
            found.setdefault(getattr(part, "section", "Settings"), []).extend(own)
    return found


def differing(config: Config) -> dict[str, Any]:
    """The settings that are not at their defaults, as they are written to YAML."""
    fields = type(config).model_fields
    values = config.model_dump(mode="json")
    return {name: value for name, value in values.items() if value != _default(fields[name])}


def _default(field: FieldInfo) -> Any:
    return field.get_default(call_default_factory=True)


def arguments(config: Config) -> list[str]:
    """The command-line flags that give this config: `["--epochs", "2.0", "--no-packing"]`."""
    given = []
    for name, value in differing(config).items():
        if isinstance(value, bool):
            given.append(flag(name) if value else f"--no-{flag(name)[2:]}")
        elif isinstance(value, dict):
            given += [flag(name), ",".join(f"{key}={item}" for key, item in value.items())]
        else:
            given += [flag(name), ",".join(map(str, value)) if isinstance(value, list) else str(value)]
    return given


def limits(field: FieldInfo) -> str:
    """A field's range in words: `above 0, at most 1`; empty where there is none."""
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    found = []
    for mark in field.metadata:
        for name, word in words.items():
            if (bound := getattr(mark, name, None)) is not None:
                found.append(f"{word} {f'{bound:,}'.removesuffix('.0')}")
    return ", ".join(found)


def flag(field: str) -> str:
    """The command-line flag of a field: `learning_rate` -> `--learning-rate`."""
    return "--" + field.replace("_", "-")


def parse(model: type[C], values: dict[str, Any]) -> C:
    """Build a config; raise one `ConfigError` that names every wrong setting or combination."""
    try:
        config = model.model_validate(values)
    except ValidationError as error:
        problems = []
        for item in error.errors(include_url=False):
            name = str(item["loc"][0]) if item["loc"] else ""
            if item["type"] == "extra_forbidden":
                known = ", ".join(model.model_fields)
                problems.append(f"{name!r} is not a setting; the settings are: {known}")
                continue
            given = "" if item["type"] == "missing" else f" {item['input']!r} is not accepted:"
            problems.append(f"{flag(name) if name else 'settings'}{given} {_lower(item['msg'])}")
        raise ConfigError(problems) from None
    if problems := config.conflicts():
        raise ConfigError(problems)
    return config


def names_from_text(value: Any) -> Any:
    """A validator: `a,b` as people type it becomes a list."""
    return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value


def _lower(message: str) -> str:
    message = message.removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


def read_yaml(path: Path) -> dict[str, Any]:
    """Settings from a YAML file; `UserError` when it is missing or is not a table of settings."""
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"settings file {path} does not exist") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        detail = " ".join(str(error).split())
        raise UserError(f"settings file {path} cannot be read: {detail}") from None
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise UserError(f"settings file {path} must hold 'name: value' lines")
    return values


def to_yaml(config: Config) -> str:
    """All settings of a config, in their order of definition."""
    import yaml

    return str(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True))
