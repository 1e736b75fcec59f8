from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from phi3tune.builds import Build
from phi3tune.config import ExportConfig
from phi3tune.paths import Workspace
from phi3tune.ui import render_builds
from tests.fake_builds import parity_report

from .conftest import MakeJob

ATTACK = "<img src=x onerror=alert(1)>"


def build(*, passed: bool = True) -> Build:
    return Build(
        "lamp/onnx/int4", "lamp/onnx/int4", "int4", "lamp", "onnx", Path("x"), 5_300_000, "int4", "cpu",
        parity_report(passed=passed), not passed, {}, 0.0,
    )  # fmt: skip


def test_table_tells_proof_size_and_speed() -> None:
    html = render_builds.builds([build(), build(passed=False)])
    assert html.count('data-build="lamp/onnx/int4"') == 2
    assert '<b class="pt-right">PASSED</b>' in html
    assert '<b class="pt-wrong">FAILED</b>' in html
    assert all(text in html for text in ("5 MB", "0.003", "98.0 %", "810", "114 MB"))
    assert "pt-empty" in render_builds.builds([])


def test_detail_has_every_length_with_its_limit() -> None:
    html = render_builds.detail(build(passed=False))
    assert "FAILS parity" in html and "Build it again with a higher precision" in html
    assert "mean KL 0.5 at 1,024 tokens is above 0.02" in html
    assert all(text in html for text in ("256 tokens (25%)", "1,024 tokens (100%)", "at most 0.02", "2,400 tokens/s"))
    assert "pt-good" in render_builds.detail(build())
    assert render_builds.detail(None) == ""


def test_what_was_not_compared_says_why() -> None:
    for_cuda = replace(build(), name="int4-cuda", device="cuda", parity=None)
    assert "made for cuda and was not compared" in render_builds.detail(for_cuda)
    assert "not compared" in render_builds.builds([for_cuda])
    damaged = replace(for_cuda, failing=True)
    assert "cannot be read" in render_builds.detail(damaged)
    assert "FAILED" in render_builds.builds([damaged])


def test_names_are_text() -> None:
    html = render_builds.builds([replace(build(), label="<img onerror=x>", ref='"><img>')])
    assert "<img" not in html


def test_builds_of_a_run_stand_there_once_each_with_the_verdict_of_the_newest() -> None:
    html = render_builds.exports([], [build(passed=False), replace(build(), label="lamp/onnx/int8")])
    assert html.count("<tr>") == 3, "a heading and two builds"
    assert "data-build" not in html, "nothing would happen"
    assert "lamp/onnx/int4: This build FAILS parity" in html
    assert render_builds.exports([], []) == ""


def test_a_classifiers_build_shows_its_labels() -> None:
    limits = {"same_label": 1.0, "max_difference": 0.0001}
    parity = {"task": "classification", "same_label": 0.99, "max_difference": 0.00012, "mean_difference": 0.00001}
    html = render_builds.detail(replace(build(), parity={**parity, "limits": limits, "passed": True}))
    assert "99.00%" in html and "at least 100.0%" in html and "Held-out rows" in html


def test_export_that_runs_or_failed(make_job: MakeJob, workspace: Workspace) -> None:
    config = ExportConfig(model="lamp")
    waiting = make_job(workspace.exports / "a", config, state="queued")
    assert "progressbar" in render_builds.exports([waiting], [])
    failed = make_job(workspace.exports / "b", config, state="failed", reason=f"disk {ATTACK}.")
    html = render_builds.exports([failed], [])
    assert "The build b failed: disk &lt;img" in html and "build again" in html


@pytest.mark.parametrize(("done", "percent"), [(0, 0), (50, 50)])
def test_packing_has_a_bar(done: int, percent: int) -> None:
    assert f'aria-valuenow="{percent}"' in render_builds.packing(done, 100 * bool(done))
