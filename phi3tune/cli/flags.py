"""Flags made from the fields of a config: no flag, range, default or sentence is written twice."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from phi3tune.config import Config, flag, limits


def config_flags(
    model: type[Config], *, skip: tuple[str, ...] = ()
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: the function's `settings` argument becomes one optional flag per field of `model`.

    `settings` holds what the user gave, and nothing else, so that it can be laid over a file of
    settings. Fields in `skip` get no flag, nor do those that are parameters of the function.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(function, eval_str=True)
        own = [p for p in signature.parameters.values() if p.name != "settings"]
        fields = {n: f for n, f in model.model_fields.items() if n not in skip and n not in signature.parameters}

        def command(**values: Any) -> Any:
            settings = {name: value for name in fields if (value := values.pop(name)) is not None}
            return function(**values, settings=settings)

        parameters = [*own, *(_parameter(name, field) for name, field in fields.items())]
        command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
        )
        command.__annotations__ = {p.name: p.annotation for p in parameters}
        command.__name__, command.__doc__ = function.__name__, function.__doc__
        return command

    return decorate


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    kind = _plain_type(field.annotation)
    names = [f"{flag(name)}/--no-{flag(name)[2:]}" if kind is bool else flag(name)]
    option = typer.Option(*names, help=help_text(field), metavar=_metavar(field, kind), show_default=False)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


def help_text(field: FieldInfo) -> str:
    """The field's sentence with its unit, range and default."""
    extra = field.json_schema_extra
    unit = extra.get("unit", "") if isinstance(extra, dict) else ""
    facts = [str(unit), limits(field)]
    default = field.get_default(call_default_factory=True)
    if default not in (None, "", {}, []):
        facts.append(f"default {shown(default)}")
    return f"{field.description} [{'; '.join(fact for fact in facts if fact)}]"


def shown(value: Any) -> str:
    """A default as people write it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _plain_type(annotation: Any) -> Any:
    """The type that Typer parses: pydantic checks the value afterwards, with every other one."""
    if get_origin(annotation) in (Union, types.UnionType):
        annotation = next(part for part in get_args(annotation) if part is not type(None))
    if annotation in (int, float, bool):
        return annotation
    return str


def _metavar(field: FieldInfo, kind: Any) -> str | None:
    annotation = field.annotation
    if get_origin(annotation) is Literal:
        return "|".join(str(choice) for choice in get_args(annotation))
    if kind is bool:
        return None
    return {int: "N", float: "X"}.get(kind, "TEXT")
