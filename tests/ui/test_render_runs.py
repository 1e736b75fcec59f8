from __future__ import annotations

from typing import Any

from phi3tune.about import About
from phi3tune.paths import Workspace
from phi3tune.ui import render_plan, render_runs

from .conftest import MakeJob

ATTACK = "<img src=x onerror=alert(1)>"


def test_runs_are_listed_newest_first(make_run: MakeJob) -> None:
    jobs = [
        make_run("old", created=1.0, step=3, steps=3, result={"train_loss": 0.5}),
        make_run("new", created=2.0, state="stopped", step=1, steps=9),
    ]
    html = render_runs.runs(jobs)
    assert html.index('data-run="new"') < html.index('data-run="old"')
    assert "1 of 9" in html
    assert "0.5" in html


def test_no_runs_says_what_to_do_first() -> None:
    assert "press Start training" in render_runs.runs([])


def test_words_of_a_run_are_inert(make_run: MakeJob, workspace: Workspace) -> None:
    folder = make_run("lamp").folder
    (folder / "about.json").write_text(About(title=ATTACK, project=ATTACK, tags=[ATTACK]).model_dump_json())
    html = render_runs.runs([make_run("lamp")])
    assert ATTACK not in html
    assert html.count("&lt;img") == 3


def test_only_waiting_jobs_have_a_place_to_change(make_run: MakeJob, workspace: Workspace) -> None:
    running, *waiting = (make_run(name, state="queued") for name in ("a", "b", "c"))
    placed = [job.__class__(**{**vars(job), "queue_position": place}) for place, job in enumerate(waiting, 1)]
    html = render_runs.queue([running, *placed], workspace)
    assert html.count('data-act="cancel"') == 2
    assert html.count('data-act="first"') == 1
    assert 'data-act="first" data-job="runs/c" aria-label="First: move c to the front"' in html
    fixed = render_runs.queue([running, *placed], workspace, movable=False)
    assert fixed.count('data-act="cancel"') == 2 and 'data-act="first"' not in fixed


def test_settings_that_differ_and_results_beside_each_other() -> None:
    html = render_runs.settings({"lora_rank": {"a": 8, "b": 16}, "packing": {"a": True, "b": False}}, ["a", "b"])
    assert html.index("lora_rank") < html.index("<td>8</td>") < html.index("<td>16</td>")
    assert "<td>yes</td><td>no</td>" in html
    assert "same settings" in render_runs.settings({}, ["a", "b"])
    html = render_runs.results({"a": {"train_seconds": 120.0, "eval_loss": None}, "b": {"train_seconds": 60.0}})
    assert "2 min" in html and "60 s" in html and "–" in html


def test_a_sweep_is_ranked() -> None:
    def row(rank: int | None, run: str, value: float | None, status: str) -> dict[str, Any]:
        settings = {"lora_rank": 8}
        return {"rank": rank, "run": run, "settings": settings, "value": value, "status": status, "step": 1, "steps": 4}

    rows = [row(1, "s-2", 0.25, "completed"), row(None, "s-1", None, "queued")]
    html = render_runs.sweep({"metric": "eval_loss", "completed": 1, "trials": 2, "rows": rows})
    assert html.index("s-2") < html.index("s-1")
    assert "0.25" in html and "waiting" in html and "1 of 2 trials finished" in html


def example_plan(**changes: Any) -> Any:
    from phi3tune.training.memory import Memory
    from phi3tune.training.plan import Plan, Remedy

    memory = Memory(
        weights=10**9, adapter=10**7, gradients=10**7, optimizer=10**7, activations=10**8, logits=10**8,
        runtime=3 * 10**8, peak=15 * 10**8,
    )  # fmt: skip
    facts: dict[str, Any] = {
        "rows": 1240, "validation_rows": 100, "tokens": 71_000, "trained_tokens": 20_000, "steps": 62, "epochs": 3.0,
        "batch_size": 8, "micro_batch": 4, "checkpointing": False, "tokens_per_second": 2900.0,
        "speed_source": "a guess", "download": 0,
        "seconds": 120.0, "seconds_low": 96.0, "seconds_high": 170.0, "memory": memory, "device": "cpu",
        "device_memory": 24 * 10**9, "memory_free": 20 * 10**9, "verdict": "fits", "remedy": None,
        "disk_needed": 10**8, "disk_free": 10**10, "cost": 0.0,
    }  # fmt: skip
    remedy = Remedy("max_length", 512, "--max-length 512", 10**9)
    return Plan(**{**facts, **changes, **({"remedy": remedy} if changes.get("verdict") == "does_not_fit" else {})})


def test_a_plan_tells_time_memory_disk_and_whether_it_fits() -> None:
    html = render_plan.plan(example_plan())
    for text in ("62", "about 2 min", "It fits", "a guess", "weights 954 MB"):
        assert text in html
    assert "cost" not in html
    assert "1.50" in render_plan.plan(example_plan(cost=1.5))


def test_a_plan_that_does_not_fit_names_the_change_that_makes_it_fit() -> None:
    html = render_plan.plan(example_plan(verdict="does_not_fit"))
    assert "does not fit" in html and "--max-length 512 makes it fit" in html
    assert "disk is too small" in render_plan.plan(example_plan(disk_free=1))
