from __future__ import annotations

import re
import time
from typing import Any

import pytest

from phi3tune import monitor
from phi3tune.guardrails import Hit
from phi3tune.monitor import RequestLog, RequestRecord
from phi3tune.paths import Workspace
from phi3tune.ui import render_monitor

ATTACK = "<img src=x onerror=alert(1)>"


@pytest.fixture
def summary(workspace: Workspace) -> dict[str, Any]:
    log = RequestLog(workspace)
    now = time.time()
    for number in range(30):
        failed = number % 10 == 9
        log.add(
            RequestRecord(
                id=f"chatcmpl-{number}",
                time=now - 60 * number,
                model=f"lamp-{number % 2} {ATTACK}",
                kind="chat",
                status=500 if failed else 200,
                error_code=ATTACK if failed else None,
                seconds=1.0 + number / 10,
                first_token_seconds=None if failed else 0.2,
                prompt_tokens=None if failed else 1_000,
                completion_tokens=None if failed else 17,
                guard_hits=[Hit(ATTACK, "flag", ATTACK)] if number == 3 else [],
            )
        )
    log.rate("chatcmpl-2", -1)
    log.rate("chatcmpl-4", 1)
    log.close()
    return monitor.summary(workspace, since=now - 3_600)


def test_figures_charts_and_tables(summary: dict[str, Any]) -> None:
    html = render_monitor.dashboard(summary)
    assert "<b>30</b><span>requests</span>" in html
    assert "<b>3 (10.0 %)</b><span>refused or failed</span>" in html
    assert "<b>200 ms</b><span>first token, median; 95 % within 200 ms</span>" in html
    assert "<b>1 : 1</b><span>rated good : bad</span>" in html
    assert html.count("<svg") == 4
    assert html.count('<rect class="pt-fill-bad"') == 3
    for caption in ("Slowest: 10 requests", "Refused or failed: 3 requests", "Rated bad: 1 request", "By model"):
        assert caption in html
    assert ATTACK not in html
    assert "&lt;img src=x" in html


def test_bars_are_as_high_as_their_values(summary: dict[str, Any]) -> None:
    points = [{"time": 60.0 * place, "first_token": value} for place, value in enumerate((None, 0.5, 2.0, 0.0))]
    html = render_monitor._chart(render_monitor.CHARTS[1], points, 60, days=False)
    heights = [float(height) for height in re.findall(r'height="([\d.]+)"/>', html)]
    assert heights == [25.0, 100.0]
    assert "at most 2.0 s" in html


def test_nothing_yet_and_drift(workspace: Workspace) -> None:
    empty = monitor.summary(workspace)
    assert "No requests in this time" in render_monitor.dashboard(empty)
    drift = {"large": True, "sentence": f"It moved {ATTACK}."}
    html = render_monitor.dashboard(empty, drift)
    assert "pt-warning" in html
    assert "It moved &lt;img" in html
    assert "pt-good" in render_monitor.dashboard(empty, {**drift, "large": False})
    assert "pt-info" in render_monitor.dashboard(empty, {**drift, "large": None})
