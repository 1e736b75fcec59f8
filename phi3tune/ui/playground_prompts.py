"""Many prompts from a file, answered by the chosen models while nobody watches: a job like any other."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from phi3tune import hosted, jobs
from phi3tune.config import PromptsConfig
from phi3tune.errors import UserError
from phi3tune.jobs import JobView
from phi3tune.paths import Workspace
from phi3tune.ui import render_jobs
from phi3tune.ui.download import Download
from phi3tune.ui.live import Cursor
from phi3tune.ui.render import Column, bar, counted, empty, esc, notice, table
from phi3tune.ui.wire import ACTION, Updates, toasts
from phi3tune.ui.words import N, t, told

FILE_TYPES = [".txt", ".jsonl", ".csv"]
HINT = N("Choose a file of prompts, then press Start: the models chosen above answer every one of them.")
ROWS_SHOWN = 50


@dataclass
class PromptsCard:
    file: gr.File
    start: gr.Button
    stop: gr.Button
    resume: gr.Button
    download: Download
    status: gr.HTML

    @property
    def parts(self) -> list[Component]:
        """Everything that `update` may change."""
        return [self.stop, self.resume, self.download.button, self.status]

    def update(self, cursor: Cursor, workspace: Workspace) -> Updates:
        """The newest job of this kind, where it has changed since this browser was told."""
        job = newest(workspace)
        state = (job.id, job.state, job.step, job.phase) if job is not None else None
        if not cursor.fresh(self.status.elem_id, state):
            return {}
        return {
            self.status: status(job),
            self.stop: gr.Button(visible=job is not None and job.active),
            self.resume: gr.Button(visible=job is not None and job.state in jobs.RESUMABLE_STATES),
            self.download.button: gr.Button(visible=job is not None and bool(answers(job))),
        }


def build() -> PromptsCard:
    with gr.Accordion(t("Many prompts from a file"), open=False, elem_id="prompts"):
        file = gr.File(
            label=t(
                "Prompts: .txt with one on each line, .jsonl with prompt or messages, or .csv with a prompt column"
            ),
            file_types=FILE_TYPES,
            height=150,
            elem_id="prompts-file",
        )
        with gr.Row(elem_classes="pt-buttons"):
            start = gr.Button(t("Start"), elem_id="prompts-start")
            stop = gr.Button(t("Stop"), variant="stop", visible=False, elem_id="prompts-stop")
            resume = gr.Button(t("Continue"), visible=False, elem_id="prompts-resume")
            download = Download.build(t("Download answers"), "prompts-download")
        status_line = gr.HTML(empty(t(HINT), picture="rows"), elem_id="prompts-status")
    return PromptsCard(file, start, stop, resume, download, status_line)


def newest(workspace: Workspace) -> JobView | None:
    """The last job of this kind."""
    found = [jobs.view(folder) for folder in workspace.evals.glob("prompts-*") if (folder / jobs.JOB).is_file()]
    return max((job for job in found if job.kind == "prompts"), key=lambda job: job.created, default=None)


def answers(job: JobView) -> list[dict[str, Any]]:
    """The answers so far."""
    from phi3tune.evaluation import prompts

    path = job.folder / prompts.ANSWERS
    return _answers(path, path.stat().st_size) if path.is_file() else []


@lru_cache(maxsize=2)
def _answers(path: Path, size: int) -> list[dict[str, Any]]:
    """`size` is part of the cache's key: a file that has grown is read again."""
    from phi3tune.evaluation import prompts

    return prompts.load(path)


def status(job: JobView | None) -> str:
    """How far it is, and the first answers: a row for each prompt, a column for each model."""
    if job is None:
        return empty(t(HINT), picture="rows")
    so_far = {"doing": render_jobs.doing(job), "n": f"{job.step:,}", "all": f"{job.steps:,}"}
    head = f'<p class="pt-line">{esc(t("{job}: {doing}, {n} of {all} answers", job=job.id, **so_far))}</p>'
    if job.active:
        head += bar(job.share_done, t("answers so far"))
    if job.state == "failed":
        head += notice("bad", told(job.reason), t("Mend that, then press Continue."))
    found = answers(job)
    config = jobs.read_config(job.folder)
    if not found or not isinstance(config, PromptsConfig):
        return head
    rows: dict[int, dict[str, Any]] = {}
    for line in found:
        row = rows.setdefault(line["row"], {"prompt": line["messages"][-1]["content"]})
        row[line["model"]] = _said(line)
    columns = [Column(t("Prompt"), wide=True), *(Column(model, wide=True) for model in config.models)]
    body = [
        [row["prompt"], *(row.get(model, "") for model in config.models)] for row in list(rows.values())[:ROWS_SHOWN]
    ]
    caption = counted(len(rows), "prompt")
    if len(rows) > ROWS_SHOWN:
        caption = t("{prompts}; the first {n} are shown", prompts=caption, n=ROWS_SHOWN)
    return head + table(columns, body, caption=caption)


def _said(line: dict[str, Any]) -> str:
    return t("no answer: {error}", error=told(line["error"])) if line["answer"] is None else line["answer"]


def connect(
    card: PromptsCard,
    chosen: Callable[..., PromptsConfig],
    inputs: list[Component],
    refresh: Callable[[Any], None],
    workspace: Workspace,
) -> None:
    """`chosen(file, *inputs)` are the settings for a stored file of prompts."""

    def begin(path: str | None, *values: Any) -> None:
        if not path:
            raise UserError(t("Choose a file of prompts first."))
        stored = _store(Path(path), workspace)
        try:
            folder = jobs.submit("prompts", chosen(str(stored), *values), workspace)
        except UserError:
            shutil.rmtree(stored.parent)
            raise
        gr.Info(t("{job} has begun; it goes on when this page is closed.", job=folder.name))

    def job() -> JobView:
        if (found := newest(workspace)) is None:
            raise UserError(t("Nothing was started yet."))
        return found

    def stop() -> None:
        jobs.stop(job().folder, workspace)

    def resume() -> None:
        jobs.resume(job().folder, workspace)

    def copy() -> str:
        from phi3tune.evaluation import prompts

        found, place = job(), Path(tempfile.mkdtemp(prefix="phi3tune-answers-"))
        return str(shutil.copy(found.folder / prompts.ANSWERS, place / f"{found.id}.jsonl"))

    refresh(card.start.click(toasts(begin), [card.file, *inputs], None, **ACTION).then)
    refresh(card.stop.click(toasts(stop), None, None, **ACTION).then)
    refresh(card.resume.click(toasts(resume), None, None, **ACTION).then)
    card.download.connect(copy, None)


def _store(path: Path, workspace: Workspace) -> Path:
    """A copy of an uploaded file that stays: the page's own copies do not."""
    from phi3tune.evaluation import prompts

    prompts.read(path)
    hosted.check_storage(workspace, path.stat().st_size)
    folder = workspace.root / "prompts" / uuid.uuid4().hex[:12]
    folder.mkdir(parents=True)
    return Path(shutil.copyfile(path, folder / f"prompts{path.suffix.lower()}"))
