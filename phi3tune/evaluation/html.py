"""The report as one HTML page that needs nothing else: no script, no request, readable from a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phi3tune.evaluation import figures
from phi3tune.evaluation.flips import GROUPS, grouped, right

if TYPE_CHECKING:
    from jinja2 import Template

FILE = "report.html"
ROWS_SHOWN = 300
TEXT_SHOWN = 4_000
_TEMPLATE = Path(__file__).with_name("report.html.j2")


def page(report: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """The page of a report (report.json) and its rows (rows.jsonl).

    Every text of the report is escaped, and the page's own policy forbids scripts and requests. At most 300 rows are
    shown, the worst first; the page says how many are left out.
    """
    better = next((each["better"] for each in report["metrics"] if each["name"] == report["metric"]), "higher")
    groups = grouped(rows, report["metric"], better)
    return _template().render(
        report=report,
        figures=figures,
        charts=figures.charts(report),
        counts={name: len(kept) for name, kept in groups.items()},
        groups=_first(groups),
        left_out=max(0, sum(map(len, groups.values())) - ROWS_SHOWN),
        meanings=GROUPS,
        right=right,
        clip=_clip,
    )


def _first(groups: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, list[Mapping[str, Any]]]:
    """The first rows of each group: as many of each as there is room for, small groups whole."""
    room, shown = ROWS_SHOWN, {}
    for place, name in enumerate(sorted(groups, key=lambda name: len(groups[name]))):
        shown[name] = list(groups[name][: room // (len(groups) - place)])
        room -= len(shown[name])
    return {name: shown[name] for name in groups}


def _clip(text: str | None) -> str:
    text = "" if text is None else str(text)
    more = len(text) - TEXT_SHOWN
    return text if more <= 0 else f"{text[:TEXT_SHOWN]} … ({more:,} more characters)"


@lru_cache(maxsize=1)
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
