"""Runs side by side."""

from __future__ import annotations

import json

import pytest

from phi3tune.compare_runs import compare
from phi3tune.errors import UserError
from phi3tune.events import Metrics, Resumed
from phi3tune.paths import Workspace
from tests.ended_runs import curve, ended_run


@pytest.fixture
def two_runs(workspace: Workspace) -> Workspace:
    ended_run(
        workspace,
        "lamp-1",
        lora_rank=4,
        name="lamp-1",
        note="the first",
        result={"train_loss": 1.5, "eval_loss": 1.2, "steps": 3},
        events=curve(loss=[2.0, 1.5, 1.0], eval_loss=[1.9, 1.5, 1.2]),
    )
    ended_run(workspace, "lamp-2", lora_rank=8, state="stopped", events=curve(loss=[2.0, 1.0]))
    return workspace


def test_only_settings_that_differ_are_shown(two_runs: Workspace):
    found = compare(["lamp-1", "lamp-2"], two_runs)
    assert found["settings"] == {"lora_rank": {"lamp-1": 4, "lamp-2": 8}}
    assert json.loads(json.dumps(found)) == found


def test_results_and_curves_are_those_of_the_runs(two_runs: Workspace):
    found = compare(["lamp-1", "lamp-2", "lamp-1"], two_runs)
    assert found["runs"] == ["lamp-1", "lamp-2"]
    first, second = found["results"]["lamp-1"], found["results"]["lamp-2"]
    assert (first["status"], first["steps"], first["train_loss"], first["eval_loss"]) == ("completed", 3, 1.5, 1.2)
    # A run without a result is told by its last metrics.
    assert (second["status"], second["train_loss"], second["eval_loss"]) == ("stopped", 1.0, None)
    assert found["curves"]["loss"] == {"lamp-1": [[1, 2.0], [2, 1.5], [3, 1.0]], "lamp-2": [[1, 2.0], [2, 1.0]]}
    assert found["curves"]["eval_loss"] == {"lamp-1": [[1, 1.9], [2, 1.5], [3, 1.2]]}


def test_what_a_resume_replaced_is_not_drawn_twice(workspace: Workspace):
    again = [*curve(loss=[2.0, 1.5]), Resumed(step=1), Metrics(step=2, weight=10, values={"loss": 1.4})]
    for name in ("lamp-1", "lamp-2"):
        ended_run(workspace, name, events=again)
    found = compare(["lamp-1", "lamp-2"], workspace)
    assert found["curves"]["loss"]["lamp-1"] == [[1, 2.0], [2, 1.4]]
    assert found["settings"] == {}


def test_one_run_or_a_missing_one_is_refused(two_runs: Workspace):
    with pytest.raises(UserError, match="two or more"):
        compare(["lamp-1", "lamp-1"], two_runs)
    with pytest.raises(UserError, match="'lamp-9' does not exist"):
        compare(["lamp-1", "lamp-9"], two_runs)
