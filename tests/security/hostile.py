"""A workspace in which every text that came from outside tries to run a script or to fetch something elsewhere."""

from __future__ import annotations

import json
import os
from pathlib import Path

from phi3tune import about, data, jobs
from phi3tune.config import EvalConfig, TrainConfig, to_yaml
from phi3tune.evaluation.saved import REPORT, ROWS
from phi3tune.events import EventLog, Failed, Metrics, Notice, Sample, Status
from phi3tune.jobs.folder import Job
from phi3tune.paths import Workspace, write_json
from tests.ended_runs import ended_run
from tests.fake_builds import fake_build
from tests.ui import reports

SCRIPT = (
    '<img src="http://evil.example/i" onerror="window.__hit=1"><script>window.__hit=1</script>'
    '"><svg onload="window.__hit=1"> ![i](http://evil.example/m) [l](javascript:window.__hit=1)'
)
SHORT = "<img src=http://evil.example/s onerror=__hit=1>"
TAG = "<svg onload=__hit=1>"
RUN, FAILED, BUILD, REPORT_NAME = "lamp", "broken", "int4", "compared"


def fill(workspace: Workspace) -> str:
    """A finished run with a build, a failed one, a report and a dataset; returns the dataset's id."""
    workspace.root.mkdir(parents=True)
    rows = workspace.root / "rows.jsonl"
    chats = [
        [{"role": "user", "content": f"{n} {SCRIPT}"}, {"role": "assistant", "content": SCRIPT}] for n in range(24)
    ]
    rows.write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in chats))
    dataset = data.store_upload(rows, f"{TAG}.jsonl", workspace)
    rows.unlink()
    told = [
        Metrics(step=1, values={"loss": 2.0, f"loss_{SCRIPT}": 1.0}),
        Metrics(step=1, values={"eval_loss": 2.0}),
        Sample(step=1, prompt=SCRIPT, expected=SCRIPT, answer=SCRIPT),
        Notice(code="loss_high", message=SCRIPT, action=SCRIPT),
    ]
    fake_build(workspace, RUN)
    for event in told:
        EventLog(workspace.runs / RUN / jobs.EVENTS).append(event)
    broken = ended_run(
        workspace, FAILED, state="failed", adapter=False, dataset=dataset, events=[Failed(reason=SCRIPT)]
    )
    status = json.loads((broken / jobs.STATUS).read_text())
    write_json(broken / jobs.STATUS, {**status, "reason": SCRIPT, "phase": SCRIPT})
    for run in (RUN, FAILED):
        about.edit_about(workspace.runs / run, title=SHORT, project=SHORT, tags=TAG, note=SCRIPT)
    parity = workspace.runs / RUN / "onnx" / BUILD / "parity.json"
    parity.write_text(parity.read_text().replace("chats <b>", json.dumps(SCRIPT)[1:-1]))
    _report(workspace)
    return dataset


def _report(workspace: Workspace) -> None:
    report = reports.make()
    folder = workspace.evals / REPORT_NAME
    folder.mkdir(parents=True)
    config = EvalConfig(models=["phi3-nano", RUN], dataset="lantern-support")
    (folder / jobs.JOB).write_text(Job("evaluate", config).to_json())
    (folder / jobs.STATUS).write_text(Status(kind="evaluate", state="completed").model_dump_json())
    (folder / jobs.EVENTS).touch()
    text, script = json.dumps(reports.ATTACK)[1:-1], json.dumps(SCRIPT)[1:-1]
    (folder / REPORT).write_text(json.dumps(report.report).replace(text, script))
    (folder / ROWS).write_text("".join(json.dumps(row).replace(text, script) + "\n" for row in report.rows))


def busy(workspace: Workspace) -> list[Path]:
    """The folders of a run and of an evaluation that seem to go on, as long as somebody holds their locks."""
    going = {workspace.runs / "going": TrainConfig(), workspace.evals / "going": EvalConfig(models=["phi3-nano"])}
    for folder, config in going.items():
        kind = "train" if isinstance(config, TrainConfig) else "evaluate"
        folder.mkdir(parents=True)
        (folder / "run.yaml").write_text(to_yaml(config)) if kind == "train" else None
        (folder / jobs.JOB).write_text(Job(kind, config).to_json())
        status = Status(kind=kind, state="running", phase=SCRIPT, step=1, steps=9, pid=os.getpid())
        (folder / jobs.STATUS).write_text(status.model_dump_json())
        (folder / jobs.EVENTS).touch()
    return list(going)
