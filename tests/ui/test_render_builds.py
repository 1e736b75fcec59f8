from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from phi3tune.builds import Build
from phi3tune.ui import render_builds
from tests.fake_builds import parity_report


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
    assert "FAILS parity" in html
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
