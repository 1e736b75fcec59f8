"""Public benchmarks: tasks of EleutherAI's lm-evaluation-harness, run on any engine.

The harness (https://github.com/EleutherAI/lm-evaluation-harness) is an optional extra. Its task files are programs:
their templates and `!function` entries run in this process, so a folder of tasks must be one that you trust.
"""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from phi3tune.config import EvalConfig
from phi3tune.engines.base import Engine
from phi3tune.engines.models import ModelRef
from phi3tune.errors import UserError
from phi3tune.evaluation.scoring import opened
from phi3tune.evaluation.transcript import Transcript
from phi3tune.events import Phase, Reporter

FILE = "benchmarks.jsonl"
INSTALL = "pip install lm-eval==0.4.13 -c requirements.lock"
_FEWSHOT_SEED = 1234  # the harness's own default


def check(config: EvalConfig) -> None:
    """Raise `UserError` when the harness is missing or has no such task; to be called before hours of other work."""
    if config.benchmarks:
        _manager(config)


def run(
    config: EvalConfig, refs: Sequence[ModelRef], out_dir: Path, workspace: object, reporter: Reporter
) -> dict[str, Any] | None:
    """Every task on every model, one task after the other; None when the user stopped it.

    Prompts are chats of the model's own template. Results of finished tasks are kept in `benchmarks.jsonl`, and every
    answer in a cache beside it, where an interrupted run goes on. An engine that gives no probabilities runs only the
    tasks that generate; for the others its values are None with the reason. Raises `UserError` when a task cannot be
    loaded, such as a public one without its data in the local cache while offline.
    """
    manager = _manager(config)
    transcript = Transcript(out_dir / FILE)
    known = {_key(line): line["results"] for line in transcript.kept}
    results: list[dict[str, Any]] = []
    for place, ref in enumerate(refs):
        wanted = [{"model": ref.ref, "task": task, "limit": config.benchmark_limit} for task in config.benchmarks]
        if all(_key(each) in known for each in wanted):
            results += [result for each in wanted for result in known[_key(each)]]
            continue
        with opened([ref], key_variable=config.key_variable) as (engine,):
            for each in wanted:
                if _key(each) not in known:
                    reporter.emit(Phase(name=f"benchmark {each['task']} on {ref.label}"))
                    cache = out_dir / f"benchmarks-{place}.db"
                    found = _run_task(manager, str(each["task"]), ref, engine, config, cache, reporter)
                    if found is None:
                        return None
                    transcript.append([{**each, "results": found}])
                    known[_key(each)] = found
                results += known[_key(each)]
    from lm_eval import __version__

    return {"harness": __version__, "limit": config.benchmark_limit, "results": results}


def _key(line: Mapping[str, Any]) -> tuple[str, str, int | None]:
    return line["model"], line["task"], line["limit"]


def _manager(config: EvalConfig) -> Any:
    """The harness's task manager, after checking that every task exists. Its own index takes seconds to read: it is
    left out where the user's folder has all tasks."""
    if importlib.util.find_spec("lm_eval") is None:
        raise UserError(f"benchmarks need EleutherAI's lm-evaluation-harness, which is not installed; run: {INSTALL}")
    from lm_eval.tasks import TaskManager

    folder = None if config.benchmark_tasks is None else Path(config.benchmark_tasks).expanduser()
    if folder is not None:
        if not folder.is_dir():
            raise UserError(f"--benchmark-tasks {config.benchmark_tasks!r} is no folder; name one with task files")
        own = TaskManager(include_path=str(folder), include_defaults=False)
        if set(config.benchmarks) <= set(own.all_tasks):
            return own
    manager = TaskManager(include_path=None if folder is None else str(folder))
    for name in config.benchmarks:
        if name not in manager.all_tasks:
            near = difflib.get_close_matches(name, manager.all_tasks, n=3)
            hint = f"near are {', '.join(near)}" if near else "its tasks: lm-eval ls tasks"
            raise UserError(f"the harness has no task {name[:80]!r}; {hint}")
    return manager


def _run_task(
    manager: Any, name: str, ref: ModelRef, engine: Engine, config: EvalConfig, cache: Path, reporter: Reporter
) -> list[dict[str, Any]] | None:
    from lm_eval.api.model import CachingLM
    from lm_eval.evaluator import evaluate

    from phi3tune.evaluation.harness import EngineLM, StopRequested

    loaded = _load(manager, name)
    for task in loaded["tasks"].values():
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=_FEWSHOT_SEED)
    kinds = {task.OUTPUT_TYPE for task in loaded["tasks"].values()}
    if "score" not in engine.info.can and kinds != {"generate_until"}:
        reason = f"{engine.info.kind} gives no probabilities, which the task needs"
        return [_result(ref, name, "", None, reason=reason)]
    model = CachingLM(EngineLM(engine, reporter), str(cache))
    with closing(model.dbdict):
        try:
            found = evaluate(
                model,
                loaded,
                limit=config.benchmark_limit,
                bootstrap_iters=config.resamples,
                log_samples=False,
                apply_chat_template=True,
                fewshot_as_multiturn=True,
            )
        except StopRequested:
            return None
        except ValueError as error:  # how the harness refuses tasks that run code or show pictures
            raise UserError(f"benchmark {name} cannot be run: {' '.join(str(error).split())[:300]}") from None
    return list(_results(ref, found))


def _load(manager: Any, name: str) -> Any:
    try:
        return manager.load([name])
    except Exception as error:  # whatever the task's files, its data set or the way to it raise
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(f"benchmark {name} cannot be loaded: {reason}") from None


def _results(ref: ModelRef, found: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """One entry for each task, metric and filter; the harness writes them as `metric,filter` and `metric_stderr,...`"""
    for task, values in {**found.get("groups", {}), **found["results"]}.items():
        count = found["n-samples"].get(task, {}).get("effective", values.get("sample_len"))
        better = found["higher_is_better"].get(task, {})
        for key, value in values.items():
            metric, _, filter_ = key.partition(",")
            if not filter_ or metric.endswith("_stderr") or not isinstance(value, int | float):
                continue
            error = values.get(f"{metric}_stderr,{filter_}")
            yield _result(
                ref,
                task,
                metric if filter_ == "none" else f"{metric} ({filter_})",
                float(value),
                stderr=float(error) if isinstance(error, int | float) else None,
                n=count,
                better={True: "higher", False: "lower"}.get(better.get(metric)),
            )


def _result(
    ref: ModelRef,
    task: str,
    metric: str,
    value: float | None,
    *,
    stderr: float | None = None,
    n: int | None = None,
    better: str | None = None,
    reason: str | None = None,
) -> dict[str, Any]:
    found = {"model": ref.ref, "label": ref.label, "task": task, "metric": metric, "value": value, "stderr": stderr}
    return {**found, "n": n, "better": better, "reason": reason}
