"""`phi3tune evaluate`."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phi3tune.cli import plain_typer
from phi3tune.cli.flags import config_flags
from phi3tune.cli.follow import print_json, run_job, say
from phi3tune.config import EvalConfig, parse, read_yaml
from phi3tune.errors import UserError
from phi3tune.paths import Workspace

if TYPE_CHECKING:
    from rich.console import Console

    from phi3tune.jobs import JobView

app = plain_typer()

# What a spreadsheet takes for the beginning of a formula (OWASP, CSV injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@app.command()
@config_flags(EvalConfig, skip=("models",))
def evaluate(
    models: Annotated[list[str] | None, typer.Argument(metavar="MODEL...", help="Models to compare.")] = None,
    *,
    config: Annotated[Path | None, typer.Option(help="YAML file of settings; flags win over it.")] = None,
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Write every row and answer to this CSV file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    settings: dict[str, Any],
) -> int:
    """Score models side by side on the same held-out rows."""
    given = {"models": models} if models else {}
    checked = parse(EvalConfig, {**(read_yaml(config) if config is not None else {}), **settings, **given})
    if csv_file is not None and not csv_file.absolute().parent.is_dir():
        raise UserError(f"--csv {csv_file} is not accepted: its folder does not exist; make it first")
    workspace = Workspace.current()
    job, code = run_job("evaluate", checked, workspace)
    if job.state == "completed" and csv_file is not None:
        write_csv(csv_file, job.result, job.folder / "rows.jsonl")
    report(job, workspace, as_json=as_json)
    return code


def report(job: JobView, workspace: Workspace, *, as_json: bool) -> None:
    """How an evaluation ended, for people or as JSON."""
    if as_json:
        print_json({"status": job.state, **job.result, **({"reason": job.reason} if job.reason else {})})
    elif job.state == "completed":
        show(job.result)
        for name in ("report.html", "report.md", "rows.jsonl", "judge.jsonl", "safety.jsonl"):
            if (job.folder / name).is_file():
                say(f"{name}: {job.folder / name}")
    elif job.state in ("stopped", "paused", "failed"):
        name = job.folder.relative_to(workspace.root).as_posix()
        say(f"the answers so far are kept; go on with: phi3tune resume {name}")


def write_csv(path: Path, report: Mapping[str, Any], rows: Path) -> None:
    """One line for each row: its place, prompt and reference, and each model's answer and score by the main metric.

    Cells that a spreadsheet would run as a formula begin with an apostrophe. Raises `UserError` when the file cannot
    be written.
    """
    metric = report["metric"]
    header = ["file", "row", "prompt", "reference"]
    for entry in report["models"]:
        header += [entry["label"], f"{entry['label']} {metric}"]
    try:
        with path.open("w", encoding="utf-8", newline="", errors="replace") as stream:
            writer = csv.writer(stream)
            writer.writerow(_cell(cell) for cell in header)
            for row in _read(rows):
                writer.writerow(_cell(cell) for cell in _cells(row, metric))
    except OSError as error:
        raise UserError(f"--csv {path} cannot be written: {error.strerror or error}") from None


def _read(rows: Path) -> Iterator[dict[str, Any]]:
    with rows.open(encoding="utf-8") as stream:
        for line in stream:
            yield json.loads(line)


def _cells(row: Mapping[str, Any], metric: str) -> list[object]:
    messages = row["prompt"]
    prompt = (
        messages[0]["content"] if len(messages) == 1 else "\n".join(f"{m['role']}: {m['content']}" for m in messages)
    )
    cells = [row["file"], row["row"], prompt, row["reference"]]
    for answer in row["answers"]:
        cells += [answer["answer"], answer["metrics"].get(metric)]
    return cells


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def show(report: Mapping[str, Any]) -> None:
    """The report on the terminal: verdict, metrics with intervals, labels, and what else was asked for."""
    from rich.console import Console

    from phi3tune.evaluation import figures

    console = Console(markup=False, highlight=False, emoji=False)
    for line in figures.headline(report):
        console.print(line, soft_wrap=True)
    if report["metrics"]:
        _metrics(console, report)
    for entry in report["models"]:
        if entry["labels"]:
            _labels(console, entry)
    for compared in (report["judge"] or {}).get("comparisons", []):
        bias = figures.shown(compared["position_bias"], "share")
        told = f"{compared['unparsable']:,} replies unreadable, {bias} chosen by position"
        console.print(f"{compared['sentence']} ({told})", soft_wrap=True)
    if report["safety"]:
        _safety(console, report["safety"])
    if report["benchmarks"]:
        _benchmarks(console, report["benchmarks"])


def _metrics(console: Console, report: Mapping[str, Any]) -> None:
    from phi3tune.evaluation import figures

    body = []
    for metric in report["metrics"]:
        name, unit = metric["name"], metric["unit"]
        cells = [metric["title"]]
        for place, entry in enumerate(report["models"]):
            bounds = figures.interval(entry["intervals"].get(name), unit)
            cells.append(figures.shown(entry["metrics"][name], unit) + (f"\n{bounds}" if bounds else ""))
            if place and report["comparisons"]:
                cells.append(figures.change(report["comparisons"][place - 1]["differences"].get(name), unit))
        body.append(cells)
    header = ["metric"]
    for place, entry in enumerate(report["models"]):
        header += [entry["label"], *(["change"] if place and report["comparisons"] else [])]
    _print(console, f"{report['rows']:,} rows, with 95 % intervals", header, body)


def _labels(console: Console, entry: Mapping[str, Any]) -> None:
    from phi3tune.evaluation import figures

    body = [
        [
            each["label"],
            *(figures.shown(each[name], "share") for name in ("precision", "recall", "f1")),
            str(each["support"]),
        ]
        for each in entry["labels"]["per_class"]
    ]
    _print(console, f"labels of {entry['label']}", ["label", "precision", "recall", "F1", "rows"], body)


def _safety(console: Console, safety: Mapping[str, Any]) -> None:
    from phi3tune.evaluation import figures

    body = [
        [each["label"]]
        + [
            f"{figures.shown(each[label]['rate'], 'share')}\n{figures.interval(each[label]['interval'], 'share')}"
            for label in ("unsafe", "safe")
        ]
        for each in safety["models"]
    ]
    body += [
        [f"{each['label']}, change", *(figures.change(each[label], "share") for label in ("unsafe", "safe"))]
        for each in safety["comparisons"]
    ]
    _print(console, "refusals", ["model", "unsafe prompts", "safe prompts"], body)
    for warning in safety["warnings"]:
        console.print(f"warning: {warning}", soft_wrap=True)


def _benchmarks(console: Console, found: Mapping[str, Any]) -> None:
    body = [
        [
            each["task"],
            each["metric"],
            each["label"],
            each["reason"] if each["value"] is None else f"{each['value']:.4g}",
            "" if each["stderr"] is None else f"{each['stderr']:.2g}",
            "" if each["n"] is None else f"{each['n']:,}",
        ]
        for each in found["results"]
    ]
    header = ["task", "metric", "model", "value", "standard error", "documents"]
    _print(console, f"lm-evaluation-harness {found['harness']}", header, body)


def _print(console: Console, title: str, header: list[str], body: list[list[str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title))
    for place, name in enumerate(header):
        table.add_column(Text(name), justify="right" if place else "left")
    for cells in body:
        table.add_row(*(Text(cell) for cell in cells))
    console.print(table)
