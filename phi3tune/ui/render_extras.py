"""What an evaluation can hold beyond its rows: a judge, refusals before and after, public benchmarks."""

from __future__ import annotations

from typing import Any

from phi3tune.ui.render import NONE, Column, esc, notice, number, share, table
from phi3tune.ui.render_report import Report


def sections(found: Report | None) -> str:
    """The sections that there are, each under its heading."""
    if found is None:
        return ""
    made = {"judge": judge, "safety": safety, "benchmarks": benchmarks}
    return "".join(show(found.report[name]) for name, show in made.items() if found.report.get(name))


def _heading(text: str) -> str:
    return f'<h3 class="pt-small-heading">{esc(text)}</h3>'


def judge(found: dict[str, Any]) -> str:
    """Wins, losses and ties of each later model against the first, as another model sees it."""
    names = ("Wins", "Losses", "Ties", "Win rate", "p-value", "Chosen by position", "Unreadable")
    columns = [Column("Model"), *(Column(name, numeric=True) for name in names)]
    body = [
        [
            each["label"],
            *(f"{each[name]:,}" for name in ("wins", "losses", "ties")),
            _rate(each["win_rate"], each["interval"]),
            number(each["p_value"]),
            share(each["position_bias"]),
            f"{each['unparsable']:,}",
        ]
        for each in found["comparisons"]
    ]
    said = "".join(f'<p class="pt-line">{esc(each["sentence"])}</p>' for each in found["comparisons"])
    caption = f"{found['judge']} on the first {found['rows']:,} rows, each pair in both orders"
    return _heading("Judge") + said + table(columns, body, caption=caption)


def safety(found: dict[str, Any]) -> str:
    """How often each model refuses prompts that it should and should not refuse, and how that changed."""
    prompts = found["prompts"]
    columns = [Column("Model")]
    columns += [Column(f"Refuses of {prompts[label]:,} {label} prompts", numeric=True) for label in ("unsafe", "safe")]
    body = [
        [each["label"], *(_rate(each[label]["rate"], each[label]["interval"]) for label in ("unsafe", "safe"))]
        for each in found["models"]
    ]
    body += [
        [f"{each['label']}, change", *(_change(each[label]) for label in ("unsafe", "safe"))]
        for each in found["comparisons"]
    ]
    warnings = "".join(notice("warning", text) for text in found["warnings"])
    caption = "Refusals are told by their phrases, which see words and not meaning"
    return _heading("Refusals") + warnings + table(columns, body, caption=caption)


def benchmarks(found: dict[str, Any]) -> str:
    """Every task, metric and model of the harness."""
    columns = [Column("Task"), Column("Metric"), Column("Model", wide=True)]
    columns += [Column(name, numeric=True) for name in ("Value", "Standard error", "Documents")]
    body = [
        [
            each["task"],
            each["metric"],
            each["label"],
            f"{NONE} ({each['reason']})" if each["value"] is None else f"{each['value']:.4g}",
            NONE if each["stderr"] is None else f"{each['stderr']:.2g}",
            NONE if each["n"] is None else f"{each['n']:,}",
        ]
        for each in found["results"]
    ]
    return _heading("Public benchmarks") + table(columns, body, caption=f"lm-evaluation-harness {found['harness']}")


def _rate(value: float | None, bounds: list[float] | None) -> str:
    return share(value) + (f" ({share(bounds[0])} to {share(bounds[1])})" if bounds else "")


def _change(found: dict[str, float] | None) -> str:
    if found is None:
        return NONE
    points = [f"{100 * found[key]:+.1f}" for key in ("difference", "low", "high")]
    return f"{points[0]} points ({points[1]} to {points[2]})"
