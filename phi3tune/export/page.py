"""The parity report of a build as one HTML page that needs nothing else: no script, no request."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phi3tune.export import words
from phi3tune.paths import write_text

if TYPE_CHECKING:
    from jinja2 import Template

FILE = "parity.html"
_TEMPLATE = Path(__file__).with_name("parity.html.j2")


def write(folder: Path, parity: Mapping[str, Any], title: str) -> None:
    """Write the page of `parity` beside the build's files."""
    write_text(folder / FILE, page(parity, title))


def page(parity: Mapping[str, Any], title: str) -> str:
    """The page of a parity report (parity.json); every text in it is escaped."""
    header, rows = words.figures(parity)
    return _template().render(
        title=title,
        parity=parity,
        verdict=words.verdict(parity),
        header=header,
        rows=rows,
        measured=words.measured(parity.get("measured")),
        bars=_bars(parity),
        remark=words.remark(parity),
    )


def _bars(parity: Mapping[str, Any]) -> list[tuple[str, str, float]]:
    """Mean KL at each length beside its limit there: name, text, and share of that limit, 2 at most."""
    limit = parity["limits"].get("kl_mean")
    places = [
        ("Short prompts", parity),
        *((f"{each['length']:,} tokens", each) for each in parity.get("contexts") or []),
    ]
    if not limit:
        return []
    bars = []
    for name, each in places:
        there = limit * each.get("widened", 1.0)
        text = f"{words.number(each['kl_mean'], '.2e')} of {there:.2g}"
        bars.append((name, text, 2.0 if each["kl_mean"] is None else min(2.0, each["kl_mean"] / there)))
    return bars


@lru_cache(maxsize=1)
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
