"""A small search over settings: one run for each combination, in the queue like any other, and a ranked table.

A sweep is `sweeps/<id>/sweep.json`, written before its first run; trial N is the run `<id>-N`. Nothing else is kept, so
the table is read from the runs and a sweep that was cut off can be taken up again.
"""

from __future__ import annotations

import itertools
import json
import math
import random
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args, get_origin

from phi3tune import hosted, jobs
from phi3tune.admission import admit
from phi3tune.config import TrainConfig, WatchedMetric, parse
from phi3tune.errors import ConfigError, UserError
from phi3tune.events import read_events
from phi3tune.paths import Workspace, check_name, claim_folder, slug
from phi3tune.training.summary import kept_metrics

FILE = "sweep.json"
SCHEMA = 1
MAX_TRIALS = 200
MAX_ID = 40  # it is a tag of its runs, too
_FIXED = {"name", "project", "tags", "note", "columns", "machine_rank"}
_RANGE = re.compile(r"([^.].*?)\.\.(.+)")


@dataclass(frozen=True)
class Trial:
    """One combination: the settings it tries, and all settings of its run."""

    run: str
    settings: dict[str, Any]
    config: TrainConfig


@dataclass(frozen=True)
class Sweep:
    """A sweep as it was asked for. `axes` are its `name=values` texts, `sampled` the trials drawn at random, if so."""

    id: str
    created: float
    metric: WatchedMetric
    axes: tuple[str, ...]
    sampled: int | None
    trials: tuple[Trial, ...]


def combinations(axes: Sequence[str], *, sample: int | None = None, seed: int = 0) -> list[dict[str, Any]]:
    """The settings of every trial: all combinations of `name=a,b,c`, or `sample` different ones drawn at random.

    For a random draw an axis may be a range, `name=low..high`: of whole numbers for such a setting, else even in the
    logarithm where `high` is ten times `low` or more. A setting that takes a list joins its names by `+`.
    Raises `ConfigError` with every axis that is wrong, `UserError` for more than 200 trials.
    """
    parsed: dict[str, tuple[float, float] | list[Any]] = {}
    problems = []
    for axis in axes:
        name, _, text = axis.partition("=")
        name = name.strip().replace("-", "_")
        if name not in TrainConfig.model_fields or name in _FIXED or not text.strip():
            problems.append(f"--set {axis!r} is not accepted: write it as setting=value,value, such as lora_rank=8,16")
        elif name in parsed:
            problems.append(f"--set {name} is given twice; put all its values in one")
        elif (span := _RANGE.fullmatch(text.strip())) is not None:
            try:
                low, high = float(span[1]), float(span[2])
            except ValueError:
                low = high = math.nan
            if not math.isfinite(high - low):
                problems.append(f"--set {axis!r} is not accepted: a range is low..high, such as 1e-5..1e-3")
            elif sample is None or low >= high:
                problems.append(f"--set {axis!r} is not accepted: a range goes upward, and needs --random")
            parsed[name] = (low, high)
        else:
            parsed[name] = list(dict.fromkeys(_value(name, value) for value in text.split(",") if value.strip()))
    if not axes:
        problems.append("a sweep needs one --set or more, such as --set learning_rate=1e-4,3e-4")
    if problems:
        raise ConfigError(problems)
    lists = [values for values in parsed.values() if isinstance(values, list)]
    count = math.prod(map(len, lists)) if sample is None else sample
    if count > MAX_TRIALS:
        raise UserError(f"{count:,} trials are too many; at most {MAX_TRIALS} are accepted: try fewer values")
    if sample is None:
        return [dict(zip(parsed, values, strict=True)) for values in itertools.product(*lists)]
    return _drawn(parsed, sample, random.Random(seed))


def start(
    settings: Mapping[str, Any],
    axes: Sequence[str],
    workspace: Workspace,
    *,
    sample: int | None = None,
    seed: int = 0,
) -> Sweep:
    """Check every trial, write the sweep down and put all its runs in the queue.

    `settings` are fields of `TrainConfig` that all trials share; its `name` becomes the sweep's id, its `best_metric`
    ranks the trials. Raises `ConfigError` with what is wrong with any trial before any of them starts.
    """
    tried = combinations(axes, sample=sample, seed=seed)
    rules = hosted.rules(workspace)
    if rules is not None and len(tried) > rules.max_jobs:
        raise UserError(f"{len(tried)} trials are too many here: {rules.max_jobs} runs at a time are the limit")
    configs, base_name = _admitted(settings, tried, workspace)
    wanted = settings.get("name")
    if wanted is not None and len(check_name(wanted, "sweep name")) > MAX_ID:
        raise UserError(f"sweep name {wanted!r} is not accepted: use at most {MAX_ID} characters")
    record = {
        "schema": SCHEMA,
        "created": time.time(),
        "metric": configs[0].best_metric,
        "axes": list(axes),
        "sampled": sample,
        "trials": [
            {"settings": _told(trial, config), "config": config.model_dump(mode="json")}
            for trial, config in zip(tried, configs, strict=True)
        ],
    }
    text = json.dumps(record, indent=1, ensure_ascii=False)
    folder = claim_folder(_folder(workspace), wanted, f"{slug(base_name)[:24]}-sweep", {FILE: text})
    return go_on(find(folder.name, workspace), workspace)


def go_on(sweep: Sweep, workspace: Workspace) -> Sweep:
    """Queue the trials that have no run, after a crash or a deletion, and resume those that were stopped."""
    for trial in sweep.trials:
        folder = workspace.runs / trial.run
        if not folder.exists():
            jobs.submit("train", trial.config, workspace)
        elif jobs.view(folder).state in ("stopped", "paused"):
            jobs.resume(folder, workspace)
    return sweep


def stop(sweep: Sweep, workspace: Workspace) -> int:
    """Ask every run of the sweep to stop, those that wait first; how many there were. Each can be resumed."""
    active = [job for job in jobs.active(workspace) if job.id in {trial.run for trial in sweep.trials}]
    for job in sorted(active, key=lambda job: job.state == "running"):
        jobs.stop(job.folder, workspace)
    return len(active)


def find(sweep_id: str, workspace: Workspace) -> Sweep:
    """A sweep by its id; `UserError` when there is none that this version reads."""
    path = _folder(workspace) / check_name(sweep_id, "sweep name") / FILE
    try:
        return _read(path, path.stat().st_mtime_ns)
    except FileNotFoundError:
        known = ", ".join(each.id for each in every(workspace)) or "none yet"
        raise UserError(f"there is no sweep {sweep_id!r}; sweeps: {known}") from None


def every(workspace: Workspace) -> list[Sweep]:
    """All sweeps, oldest first."""
    names = [path.parent.name for path in _folder(workspace).glob(f"[!.]*/{FILE}")]
    return sorted((find(name, workspace) for name in names), key=lambda sweep: (sweep.created, sweep.id))


def table(sweep: Sweep, workspace: Workspace) -> dict[str, Any]:
    """The trials, best first; those without a value yet come last, in their order.

    The value of a trial is the sweep's metric of the weights that its run ends with, or has at the moment.
    """
    rows = [_row(trial, sweep.metric, workspace) for trial in sweep.trials]
    better = 1 if sweep.metric == "eval_loss" else -1
    rows.sort(key=lambda row: math.inf if row["value"] is None else better * row["value"])
    ranked = [{"rank": None if row["value"] is None else place, **row} for place, row in enumerate(rows, 1)]
    done = [row for row in ranked if row["status"] == "completed"]
    return {
        "sweep": sweep.id,
        "metric": sweep.metric,
        "axes": list(sweep.axes),
        "trials": len(ranked),
        "completed": len(done),
        "best": next((row["run"] for row in done if row["value"] is not None), None),
        "rows": ranked,
    }


# The page asks every second: a file is read again only when it has changed.
@lru_cache(maxsize=256)
def _read(path: Path, _changed: int) -> Sweep:
    record = json.loads(path.read_text(encoding="utf-8"))
    sweep_id = path.parent.name
    if record["schema"] != SCHEMA:
        raise UserError(f"sweep {sweep_id} has schema {record['schema']}, this version reads {SCHEMA}")
    trials = []
    for number, trial in enumerate(record["trials"], 1):
        config = TrainConfig.model_validate(trial["config"])
        named = config.model_copy(update={"name": f"{sweep_id}-{number}", "tags": [*config.tags, sweep_id]})
        trials.append(Trial(f"{sweep_id}-{number}", trial["settings"], named))
    axes, sampled = tuple(record["axes"]), record["sampled"]
    return Sweep(sweep_id, record["created"], record["metric"], axes, sampled, tuple(trials))


@lru_cache(maxsize=1024)
def _evaluations(path: Path, metric: WatchedMetric, _bytes: int) -> list[float]:
    kept = kept_metrics(read_events(path)[0])
    return [metrics.values[metric] for metrics in kept if metric in metrics.values]


def _row(trial: Trial, metric: WatchedMetric, workspace: Workspace) -> dict[str, Any]:
    folder = workspace.runs / trial.run
    row = {"run": trial.run, "settings": trial.settings}
    if not (folder / jobs.STATUS).is_file():
        return {**row, "value": None, "status": "missing", "step": 0, "steps": 0, "reason": ""}
    job = jobs.view(folder)
    events = folder / jobs.EVENTS
    values = _evaluations(events, metric, events.stat().st_size) if events.exists() else []
    if not trial.config.keep_best:
        values = values[-1:]
    finite = [value for value in values if math.isfinite(value)]
    value = (min if metric == "eval_loss" else max)(finite, default=None)
    return {**row, "value": value, "status": job.state, "step": job.step, "steps": job.steps, "reason": job.reason}


def _admitted(
    settings: Mapping[str, Any], tried: Sequence[Mapping[str, Any]], workspace: Workspace
) -> tuple[list[TrainConfig], str]:
    """The settings of every trial as its run may have them, and what a made name begins with."""
    configs: list[TrainConfig] = []
    problems: dict[str, str] = {}
    base_name = ""
    for trial in tried:
        try:
            config = parse(TrainConfig, {**settings, "name": None, **trial})
            if not config.validates:
                raise UserError("trials are ranked by validation rows and there are none; raise --validation-share")
            admission = admit(config, workspace)
        except UserError as error:
            shown = ", ".join(f"{name}={value}" for name, value in trial.items())
            # One mistake of the shared settings is told once, with the first trial that shows it.
            problems.setdefault(str(error), shown)
            continue
        assert isinstance(admission.config, TrainConfig)
        configs.append(admission.config)
        base_name = admission.base_name
    if problems:
        raise ConfigError(f"trial {shown}: {problem}" for problem, shown in problems.items())
    return configs, base_name


def _value(name: str, text: str) -> str | None:
    """One value as it is written; `none` stands for nothing where a setting may be empty."""
    text = text.strip()
    annotation = TrainConfig.model_fields[name].annotation
    if text.lower() == "none" and type(None) in get_args(annotation):
        return None
    return text.replace("+", ",") if get_origin(annotation) is list else text


def _drawn(axes: Mapping[str, tuple[float, float] | list[Any]], count: int, rng: random.Random) -> list[dict[str, Any]]:
    """`count` different combinations, or all there are."""
    possible = math.prod(len(values) if isinstance(values, list) else math.inf for values in axes.values())
    found: dict[str, dict[str, Any]] = {}
    misses = 0
    # A range of few whole numbers is exhausted sooner than `possible` says: many misses in a row end the draw.
    while len(found) < min(count, possible) and misses < 1000:
        trial = {name: _pick(name, values, rng) for name, values in axes.items()}
        misses = misses + 1 if json.dumps(trial) in found else 0
        found[json.dumps(trial)] = trial
    return list(found.values())


def _pick(name: str, values: tuple[float, float] | list[Any], rng: random.Random) -> Any:
    if isinstance(values, list):
        return rng.choice(values)
    low, high = values
    logarithmic = low > 0 and high >= 10 * low
    drawn = math.exp(rng.uniform(math.log(low), math.log(high))) if logarithmic else rng.uniform(low, high)
    annotation = TrainConfig.model_fields[name].annotation
    whole = annotation is int or int in get_args(annotation)
    return round(drawn) if whole else float(f"{drawn:.3g}")


def _told(trial: Mapping[str, Any], config: TrainConfig) -> dict[str, Any]:
    """A trial's settings as values; the name of a preset stays as it was written."""
    dumped = config.model_dump(mode="json")
    return {name: value if name == "method" else dumped[name] for name, value in trial.items()}


def _folder(workspace: Workspace) -> Path:
    return workspace.root / "sweeps"
