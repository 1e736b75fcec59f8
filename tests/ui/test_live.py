from __future__ import annotations

from phi3tune import jobs
from phi3tune.config import EvalConfig, ExportConfig
from phi3tune.events import EventLog, Metrics, Notice, Resumed, Sample
from phi3tune.paths import Workspace
from phi3tune.ui import live
from phi3tune.ui.live import Cursor, Logs

from .conftest import MakeJob


def metrics(step: int) -> Metrics:
    return Metrics(step=step, values={"loss": float(step)})


def test_log_reads_only_what_is_new(make_run: MakeJob) -> None:
    job = make_run("a", [metrics(1), Notice(code="x", message="y")])
    logs = Logs()
    first = logs.of(job)
    assert (first.version, [m.step for m in first.metrics], len(first.notices)) == (1, [1], 1)
    assert logs.of(job).version == 1
    EventLog(job.folder / jobs.EVENTS).append(metrics(2))
    again = logs.of(job)
    assert again is first
    assert (again.version, [m.step for m in again.metrics], again.latest) == (2, [1, 2], {"loss": 2.0})


def test_resuming_drops_the_steps_that_are_done_again(make_run: MakeJob) -> None:
    sample = Sample(step=3, prompt="p", expected="e", answer="a")
    job = make_run("a", [metrics(1), metrics(2), metrics(3), sample, Resumed(step=2), metrics(3)])
    log = Logs().of(job)
    assert [m.step for m in log.metrics] == [1, 2, 3]
    assert log.samples == []


def test_a_remade_run_of_the_same_name_has_its_own_log(make_run: MakeJob, workspace: Workspace) -> None:
    logs = Logs()
    logs.of(make_run("a", [metrics(1)], created=1.0))
    jobs.delete(workspace.runs / "a", workspace)
    assert [m.step for m in logs.of(make_run("a", [metrics(7)], created=2.0)).metrics] == [7]


def test_only_so_many_logs_are_kept(make_run: MakeJob) -> None:
    logs = Logs()
    first = logs.of(make_run("first", [metrics(1)]))
    for number in range(live.LOGS_KEPT):
        logs.of(make_run(f"run-{number}"))
    assert logs.of(make_run("first")) is not first


def test_cursor_tells_what_a_browser_has_not_seen() -> None:
    cursor = Cursor()
    assert cursor.fresh("chip", "a")
    assert not cursor.fresh("chip", "a")
    assert cursor.fresh("chip", "b")
    assert cursor.fresh("stop", False)


def test_charts_are_drawn_for_new_events_but_not_too_often(monkeypatch) -> None:
    now = [100.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])
    cursor = Cursor()
    assert cursor.chart_due("a", 1, 0.0, ended=False)
    assert not cursor.chart_due("a", 1, 0.0, ended=False), "nothing new"
    now[0] += live.CHART_SECONDS / 2
    assert not cursor.chart_due("a", 2, 0.0, ended=False), "too soon"
    assert cursor.chart_due("a", 2, 0.5, ended=False), "another smoothing is drawn at once"
    assert cursor.chart_due("b", 2, 0.5, ended=False), "another run too"
    assert cursor.chart_due("b", 3, 0.5, ended=True), "and the end of a run"
    now[0] += live.CHART_SECONDS
    assert cursor.chart_due("b", 4, 0.5, ended=False)


def test_jobs_of_a_kind_newest_first(make_run: MakeJob, make_job: MakeJob, workspace: Workspace) -> None:
    make_run("lamp")
    config = EvalConfig(dataset="lantern-support")
    make_job(workspace.evals / "old", config, state="completed", created=1.0)
    of_run = make_job(workspace.runs / "lamp" / "eval" / "new", config, state="completed", created=2.0)
    make_job(workspace.exports / "other", ExportConfig(model="phi3-nano"), state="completed", created=3.0)
    mine = make_job(workspace.exports / "mine", ExportConfig(model="lamp"), state="failed", created=4.0)
    assert [job.id for job in live.evaluations(workspace)] == ["new", "old"]
    assert live.exports_of("lamp", workspace) == [mine]
    assert live.key(of_run, workspace) == "runs/lamp/eval/new"
    assert jobs.find("runs/lamp/eval/new", workspace) == of_run.folder


def test_jobs_that_end_before_a_browsers_eyes_are_told_once(make_run: MakeJob, workspace: Workspace) -> None:
    cursor = Cursor()
    running, waiting = make_run("lamp", state="queued"), make_run("next", state="queued")
    assert cursor.follow([running, waiting], workspace) == []
    assert cursor.named == "runs/lamp"
    make_run("lamp", state="completed")
    assert [job.id for job in cursor.follow([waiting], workspace)] == ["lamp"]
    assert cursor.ended is not None and cursor.ended.state == "completed"
    jobs.delete(workspace.runs / "lamp", workspace)
    assert cursor.follow([waiting], workspace) == []
