"""What endpoints were asked and how they did, as HTML: figures, charts over time, tables of single requests."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from phi3tune.ui.render import (
    NONE,
    Column,
    counted,
    duration,
    empty,
    esc,
    explained,
    facts,
    latency,
    notice,
    number,
    share,
    table,
)  # fmt: skip
from phi3tune.ui.words import N, t, told

_HALF_DAY = 43_200.0  # from here on a time of day needs its date
_WIDTH, _HEIGHT = 100.0, 100.0  # of a chart's own coordinates; it is as wide as its place


class Series(NamedTuple):
    """One colour of a chart: the key of its values in a summary's series, its name, and its CSS class."""

    key: str
    name: str
    style: str


class Chart(NamedTuple):
    """`summed`: its values are those of a stretch of time, which is then named."""

    title: str
    series: tuple[Series, ...]
    unit: str
    summed: bool = False


CHARTS = (
    Chart(
        N("Requests"),
        (Series("answered", N("answered"), "pt-fill"), Series("errors", N("refused or failed"), "pt-fill-bad")),
        "",
        summed=True,
    ),
    Chart(N("First token, median"), (Series("first_token", "", "pt-fill"),), "seconds"),
    Chart(N("Tokens per second, median"), (Series("tokens_per_second", "", "pt-fill"),), ""),
    Chart(
        N("Tokens"),
        (Series("prompt_tokens", N("in"), "pt-fill-sub"), Series("completion_tokens", N("out"), "pt-fill")),
        "",
        summed=True,
    ),
)
TERMS = {
    N("First token"): N("How long a program waits until an answer begins."),
    N("Median"): N("Half of all requests were faster, half slower."),
    N("Tokens in, cached"): N("Tokens of prompts, and those of them that were known from the request before."),
    N("Waited"): N("Time in the line, while other requests were answered."),
    N("Drift"): N(
        "Whether what is asked now differs from the rows that the model was trained on; choose a model for it."
    ),
}


def dashboard(found: Mapping[str, Any], drift: Mapping[str, Any] | None = None) -> str:
    """A summary of `monitor.summary`, and what `monitor.drift` says of one model."""
    said = _drift(drift) if drift is not None else ""
    if not found["requests"]:
        text = t("No requests in this time. Start an endpoint, ask it something, and it is shown here.")
        return said + empty(text, picture="chart")
    terms = explained([(t(name), t(text)) for name, text in TERMS.items()], t("What these figures mean"))
    return said + _figures(found) + _charts(found) + _tables(found) + terms


def _drift(drift: Mapping[str, Any]) -> str:
    level = {True: "warning", False: "good", None: "info"}[drift["large"]]
    return notice(level, told(drift["sentence"]))


def _figures(found: Mapping[str, Any]) -> str:
    first, speed, tokens, ratings = (found[name] for name in ("first_token", "tokens_per_second", "tokens", "ratings"))
    failed = t("{n} ({share})", n=number(found["errors"]), share=share(found["errors"] / found["requests"]))
    items = [
        (number(found["requests"]), t("requests")),
        (number(found["requests_per_minute"]), t("requests a minute")),
        (failed, t("refused or failed")),
        (_seconds(first["p50"]), t("first token, median; 95 % within {time}", time=_seconds(first["p95"]))),
        (number(speed["p50"]), t("tokens per second, median; 95 % above {n}", n=number(speed["p5"]))),
        (number(tokens["prompt"]), t("tokens in, {n} of them cached", n=number(tokens["cached"]))),
        (number(tokens["completion"]), t("tokens out")),
    ]
    if ratings["up"] or ratings["down"]:
        items.append((f"{ratings['up']:,} : {ratings['down']:,}", t("rated good : bad")))
    if found["contents"]:
        items.append((number(found["contents"]), t("requests with their texts kept")))
    return facts(items)


def _charts(found: Mapping[str, Any]) -> str:
    points = [{**point, "answered": point["requests"] - point["errors"]} for point in found["series"]]
    days = found["until"] - found["since"] > _HALF_DAY
    drawn = "".join(_chart(chart, points, found["bucket_seconds"], days) for chart in CHARTS)
    return f'<div class="pt-series">{drawn}</div>'


def _chart(chart: Chart, points: Sequence[Mapping[str, Any]], bucket: float, days: bool) -> str:
    """Bars, the series on top of each other; a stretch of time without a value has none."""
    top = max(sum(point[each.key] or 0 for each in chart.series) for point in points)
    width = _WIDTH / len(points)
    bars = []
    for place, point in enumerate(points):
        base = _HEIGHT
        values = []
        rects = ""
        for each in chart.series:
            value = point[each.key]
            if not value:
                continue
            height = _HEIGHT * value / top
            base -= height
            rects += (
                f'<rect class="{each.style}" x="{place * width:.3f}" y="{base:.2f}" width="{width * 0.9:.3f}" '
                f'height="{height:.2f}"/>'
            )
            values.append(f"{_shown(value, chart.unit)} {t(each.name) if each.name else ''}".strip())
        if rects:
            bars.append(f"<g><title>{esc(_clock(point['time'], days))}: {esc(', '.join(values))}</title>{rects}</g>")
    title, peak = t(chart.title), t("nothing yet")
    if top:
        peak = t("at most {value}", value=_shown(top, chart.unit))
    if top and chart.summed:
        peak = t("at most {value} in {time}", value=_shown(top, chart.unit), time=duration(bucket))
    legend = "".join(f'<i class="{each.style}"></i>{esc(t(each.name))} ' for each in chart.series if each.name)
    ends = f"<span>{_clock(points[0]['time'], days)}</span><span>{_clock(points[-1]['time'], days)}</span>"
    return (
        f'<figure class="pt-chart"><figcaption><b>{esc(title)}</b> {legend}'
        f"<small>{esc(peak)}</small></figcaption>"
        f'<svg viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" preserveAspectRatio="none" role="img" '
        f'aria-label="{esc(title)}: {esc(peak)}">{"".join(bars)}</svg>'
        f'<div class="pt-axis">{ends}</div></figure>'
    )


def _tables(found: Mapping[str, Any]) -> str:
    days = found["until"] - found["since"] > _HALF_DAY
    shown = [
        _requests(t("Slowest"), found["slowest"], days),
        _requests(t("Refused or failed"), found["failed"], days),
        _requests(t("Rated bad"), found["ratings"]["bad"], days),
    ]
    if len(found["models"]) > 1:
        names = [
            Column(t("Model")),
            *(Column(title, numeric=True) for title in (t("Requests"), t("Failed"), *_tokens())),
        ]
        keys = ("requests", "errors", "prompt_tokens", "completion_tokens")
        rows = [[row["model"], *(number(row[key]) for key in keys)] for row in found["models"]]
        shown.append(table(names, rows, caption=t("By model")))
    if found["guards"]:
        names = [
            Column(t("Guard")),
            Column(t("Action")),
            Column(t("Found"), wide=True),
            Column(t("Requests"), numeric=True),
        ]
        rows = [[row["guard"], row["action"], row["what"], number(row["requests"])] for row in found["guards"]]
        shown.append(table(names, rows, caption=t("Found by guards")))
    return "".join(shown)


def _requests(caption: str, rows: Sequence[Mapping[str, Any]], days: bool) -> str:
    if not rows:
        return ""
    numeric = (t("Waited"), t("First token"), t("Whole"), *_tokens(), t("Tokens/s"))
    columns = [Column(t("Time")), Column(t("Model")), Column(t("Came to"))]
    columns += [*(Column(title, numeric=True) for title in numeric), Column(t("Request"))]
    cells = [
        [
            _clock(row["time"], days),
            row["model"],
            " ".join(filter(None, [str(row["status"]), row["error_code"] or row["finish_reason"]])),
            *(_seconds(row[key]) for key in ("queue_seconds", "first_token_seconds", "seconds")),
            *(number(row[key]) for key in ("prompt_tokens", "completion_tokens", "tokens_per_second")),
            row["id"],
        ]
        for row in rows
    ]
    return table(columns, cells, caption=f"{caption}: {counted(len(rows), 'request')}")


def _tokens() -> tuple[str, str]:
    return t("Tokens in"), t("Tokens out")


def _shown(value: float, unit: str) -> str:
    return latency(value) if unit == "seconds" else number(value)


def _seconds(value: float | None) -> str:
    return NONE if value is None else latency(value)


def _clock(seconds: float, days: bool) -> str:
    return time.strftime(t("%d %b %H:%M") if days else "%H:%M:%S", time.localtime(seconds))
