"""The same verbs from Python: each checks its settings, does the job in a worker process and returns its result.

from phi3tune import api

audit = api.check("lantern-support")
run = api.train(dataset="lantern-support")
scores = api.evaluate("phi3-nano", run["run"], dataset="lantern-support")
build = api.export(run["run"], precision="int4")
with api.load(f"{run['run']}/onnx/{build['build']}") as model:
    print(model.answer([{"role": "user", "content": "How do I reset the lamp?"}]))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phi3tune import compare_runs, iterate, jobs, sweeps
from phi3tune.config import Config, EvalConfig, ExportConfig, ServeConfig, TrainConfig, parse
from phi3tune.errors import JobError, UserError
from phi3tune.events import Event
from phi3tune.paths import Workspace

if TYPE_CHECKING:
    from phi3tune.builds import Build
    from phi3tune.chat import Message
    from phi3tune.data import Version
    from phi3tune.engines.base import Engine
    from phi3tune.engines.classifier import Classification

OnEvent = Callable[[Event], None]


def check(dataset: str, *, model: str = "phi3-nano", **settings: Any) -> dict[str, Any]:
    """Audit a dataset as `model` would be trained on it; settings are the fields of `TrainConfig`.

    Returns what `data check --json` prints; problems of the data are told in it, not raised. Raises `UserError` when
    there is no such dataset or model.
    """
    from phi3tune import data
    from phi3tune.chat import Renderer
    from phi3tune.engines import models

    workspace = Workspace.current()
    config = parse(TrainConfig, {**settings, "dataset": dataset})
    return data.check(config, workspace, Renderer.load(models.resolve(model, workspace).tokenizer))


def mend(dataset: str, *, repair: bool = True, drop: Sequence[str] = (), **settings: Any) -> Version:
    """Write a new version of a dataset: repaired, and without the rows of the findings whose codes are in `drop`.

    Raises `UserError` when nothing would change or be left, and `DataError` for what cannot be repaired.
    """
    from phi3tune import data

    workspace = Workspace.current()
    config = parse(TrainConfig, {**settings, "dataset": dataset})
    findings = data.check(config, workspace)["findings"] if drop else []
    return data.new_version(config, workspace, repair=repair, drop=data.drop_rows(findings, drop))


def plan(**settings: Any) -> dict[str, Any]:
    """What a run would take, without starting it; settings are the fields of `TrainConfig`.

    Returns what `train --plan --json` prints. Raises `UserError` where the run would be refused.
    """
    from phi3tune.training.plan import plan

    return plan(parse(TrainConfig, settings), Workspace.current()).as_dict()


def train(*, on_event: OnEvent | None = None, **settings: Any) -> dict[str, Any]:
    """Fine-tune a model; settings are the fields of `TrainConfig`. Returns what `train --json` prints.

    Raises `ConfigError` or another `UserError` for a mistake, and `JobError` when the run fails.
    """
    return _do("train", parse(TrainConfig, settings), on_event)


def resume(job: str, *, on_event: OnEvent | None = None) -> dict[str, Any]:
    """Go on with a stopped or failed run, or with an evaluation by its path below the workspace.

    Returns and raises as `train` and `evaluate`.
    """
    workspace = Workspace.current()
    folder = jobs.named(job, workspace)
    return _finish(folder, workspace, on_event, jobs.resume(folder, workspace))


def train_further(run: str, *, on_event: OnEvent | None = None, **changes: Any) -> dict[str, Any]:
    """A new run that goes on from the result of `run`, with changed settings. Returns and raises as `train`."""
    return _do("train", iterate.continued(run, Workspace.current(), **changes), on_event)


def sweep(
    *axes: str, trials: int | None = None, seed: int = 0, on_event: OnEvent | None = None, **settings: Any
) -> dict[str, Any]:
    """Train once for every combination of `axes` such as `"lora_rank=8,16"`, or for `trials` of them drawn at random.

    Returns what `sweeps show --json` prints when all runs have ended, the best first. Raises `ConfigError` for a
    mistake in any trial before the first one starts.
    """
    workspace = Workspace.current()
    found = sweeps.start(settings, axes, workspace, sample=trials, seed=seed)
    for trial in found.trials:
        for event in jobs.follow(workspace.run(trial.run), workspace):
            if on_event is not None:
                on_event(event)
    return sweeps.table(found, workspace)


def compare(*runs: str) -> dict[str, Any]:
    """Settings that differ between runs, their results and their curves: what `runs compare --json` prints."""
    return compare_runs.compare(runs, Workspace.current())


def evaluate(*models: str, on_event: OnEvent | None = None, **settings: Any) -> dict[str, Any]:
    """Score models on the same held-out rows; settings are the fields of `EvalConfig`. Raises as `train`."""
    return _do("evaluate", parse(EvalConfig, {"models": list(models), **settings}), on_event)


def export(model: str, *, on_event: OnEvent | None = None, **settings: Any) -> dict[str, Any]:
    """Merge or build a model; settings are the fields of `ExportConfig`. Raises as `train`.

    A build that failed its parity check is returned like any other: look at `result["parity"]["passed"]`.
    """
    return _do("export", parse(ExportConfig, {"model": model, **settings}), on_event)


def builds() -> list[Build]:
    """Every build with its proof, newest first."""
    from phi3tune.builds import list_builds

    return list_builds(Workspace.current())


def push(model: str, repo: str, *, private: bool = False, force: bool = False) -> dict[str, Any]:
    """Publish a run, merged weights or a build as `repo` (owner/name) on the Hugging Face Hub.

    Returns what `push --json` prints. Raises `UserError` for a build that fails parity unless `force`d, for altered
    files, and for what the Hub refuses.
    """
    from phi3tune.engines.hub_models import Unwatched
    from phi3tune.engines.models import resolve
    from phi3tune.export.push import push as send

    workspace = Workspace.current()
    ref = resolve(model, workspace, download=False)
    found = send(ref, repo, workspace, Unwatched(), private=private, force=force)
    assert found is not None  # nobody stops it
    return {"model": model, **found}


class Model:
    """A loaded model to talk to."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def stream(self, messages: Sequence[Message], **sampling: Any) -> Iterator[str]:
        """Pieces of the answer as they come; `sampling` takes max_new_tokens, temperature, top_p and seed."""
        from phi3tune.engines.base import Sampling, chat_request

        request = chat_request(self.engine, messages, Sampling(**sampling))
        for chunk in self.engine.stream(request):
            yield chunk.text

    def classify(self, inputs: Sequence[str | Sequence[Message]]) -> list[Classification]:
        """The labels of texts or chats, by a model of a run with `task="classification"`.

        Raises `UserError` for a model that answers chats.
        """
        from phi3tune.engines.classifier import Classifier

        if not isinstance(self.engine, Classifier):
            raise UserError(f"{self.engine.info.name} answers chats and chooses no labels; use answer or stream")
        return self.engine.classify(inputs)

    def answer(self, messages: Sequence[Message], **sampling: Any) -> str:
        """The whole answer to the last message."""
        return "".join(self.stream(messages, **sampling))


@contextmanager
def load(model: str) -> Iterator[Model]:
    """Load a model into this process: phi3-nano, a run, a build, a folder, a Hub id or an endpoint.

    Raises `UserError` when it cannot be loaded.
    """
    from phi3tune.engines import models, open_engine

    engine = open_engine(models.resolve(model, Workspace.current()))
    try:
        yield Model(engine)
    finally:
        engine.close()


@contextmanager
def serve(*models: str, **settings: Any) -> Iterator[str]:
    """An OpenAI-compatible endpoint while the block lasts; gives its address once the models are loaded.

    Settings are the fields of `ServeConfig`. Raises `UserError` when a model cannot be served or the port is taken.
    """
    from phi3tune.server.endpoint import Endpoints

    endpoints = Endpoints(Workspace.current())
    url = endpoints.start(parse(ServeConfig, {"models": list(models), **settings}))
    try:
        endpoints.wait()
        yield url
    finally:
        endpoints.stop()


def _do(kind: jobs.Kind, config: Config, on_event: OnEvent | None) -> dict[str, Any]:
    workspace = Workspace.current()
    return _finish(jobs.submit(kind, config, workspace), workspace, on_event)


def _finish(folder: Path, workspace: Workspace, on_event: OnEvent | None, offset: int = 0) -> dict[str, Any]:
    for event in jobs.follow(folder, workspace, offset=offset):
        if on_event is not None:
            on_event(event)
    job = jobs.view(folder)
    if job.state == "failed":
        raise JobError(f"{job.id} failed: {job.reason}")
    return job.result
