"""What an evaluation can hold beyond its rows: a judge, refusals before and after, public benchmarks."""

from __future__ import annotations

from typing import Any

from phi3tune.ui.render import NONE, Column, esc, explained, notice, number, share, table
from phi3tune.ui.render_report import Report
from phi3tune.ui.words import N, t, told

LABELS = {"safe": N("safe"), "unsafe": N("unsafe")}


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
    names = (t("Wins"), t("Losses"), t("Ties"), t("Win rate"), t("p-value"), t("Chosen by position"), t("Unreadable"))
    columns = [Column(t("Model")), *(Column(name, numeric=True) for name in names)]
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
    said = "".join(f'<p class="pt-line">{esc(told(each["sentence"]))}</p>' for each in found["comparisons"])
    rows = f"{found['rows']:,}"
    caption = t("{judge} on the first {n} rows, each pair in both orders", judge=found["judge"], n=rows)
    terms = explained(
        [
            (t("p-value"), t("How often chance alone gives a lead at least as large; below 0.05 it is no accident.")),
            (t("Chosen by position"), t("Pairs where the judge took the place and not the answer: less is better.")),
            (t("Unreadable"), t("Pairs for which the judge did not say which answer it takes.")),
        ],
        t("What these figures mean"),
    )
    return _heading(t("Judge")) + said + table(columns, body, caption=caption) + terms


def safety(found: dict[str, Any]) -> str:
    """How often each model refuses prompts that it should and should not refuse, and how that changed."""
    prompts = found["prompts"]
    columns = [Column(t("Model"))]
    columns += [
        Column(t("Refuses of {n} {label} prompts", n=f"{prompts[label]:,}", label=t(LABELS[label])), numeric=True)
        for label in ("unsafe", "safe")
    ]
    body = [
        [each["label"], *(_rate(each[label]["rate"], each[label]["interval"]) for label in ("unsafe", "safe"))]
        for each in found["models"]
    ]
    body += [
        [t("{model}, change", model=each["label"]), *(_change(each[label]) for label in ("unsafe", "safe"))]
        for each in found["comparisons"]
    ]
    warnings = "".join(notice("warning", told(text)) for text in found["warnings"])
    caption = t("Refusals are told by their phrases, which see words and not meaning")
    return _heading(t("Refusals")) + warnings + table(columns, body, caption=caption)


def benchmarks(found: dict[str, Any]) -> str:
    """Every task, metric and model of the harness."""
    columns = [Column(t("Task")), Column(t("Metric")), Column(t("Model"), wide=True)]
    columns += [Column(name, numeric=True) for name in (t("Value"), t("Standard error"), t("Documents"))]
    body = [
        [
            each["task"],
            each["metric"],
            each["label"],
            f"{NONE} ({told(each['reason'])})" if each["value"] is None else f"{each['value']:.4g}",
            NONE if each["stderr"] is None else f"{each['stderr']:.2g}",
            NONE if each["n"] is None else f"{each['n']:,}",
        ]
        for each in found["results"]
    ]
    return _heading(t("Public benchmarks")) + table(columns, body, caption=f"lm-evaluation-harness {found['harness']}")


def _rate(value: float | None, bounds: list[float] | None) -> str:
    if not bounds:
        return share(value)
    return t("{value} ({low} to {high})", value=share(value), low=share(bounds[0]), high=share(bounds[1]))


def _change(found: dict[str, float] | None) -> str:
    if found is None:
        return NONE
    value, low, high = (f"{100 * found[key]:+.1f}" for key in ("difference", "low", "high"))
    return t("{value} points ({low} to {high})", value=value, low=low, high=high)
