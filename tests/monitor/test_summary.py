"""The log in numbers, against numpy's."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from phi3tune import monitor
from phi3tune.guardrails import Hit
from phi3tune.monitor import RequestLog, RequestRecord
from phi3tune.paths import Workspace

START = 1_700_000_040.0  # the beginning of a minute


@pytest.fixture
def records(workspace: Workspace) -> list[RequestRecord]:
    """An hour of requests to two models, a tenth of them failed."""
    draw = random.Random(3)
    found = []
    for number in range(400):
        status = 200 if number % 10 else draw.choice([400, 429, 500])
        ok = status == 200
        first = draw.uniform(0.05, 0.5)
        found.append(
            RequestRecord(
                id=f"r{number}",
                time=START + draw.uniform(0, 3_599),
                model=draw.choice(["a", "b"]),
                kind="chat",
                status=status,
                error_code=None if ok else f"code_{status}",
                seconds=first + draw.uniform(0.1, 3.0),
                prompt_tokens=draw.randint(5, 500) if ok else None,
                completion_tokens=draw.randint(0, 90) if ok else None,
                cached_tokens=2 if ok else None,
                queue_seconds=draw.uniform(0, 0.1) if ok else None,
                first_token_seconds=first if ok else None,
                guard_hits=[Hit("words", "flag", "phrase")] if number % 50 == 1 else [],
            )
        )
    log = RequestLog(workspace, retention_days=3_650.0)
    for each in found:
        log.add(each)
    log.close()
    return found


def told(workspace: Workspace, **changes: Any) -> dict[str, Any]:
    return monitor.summary(workspace, **{"since": START, "until": START + 3_600, **changes})


def test_counts_and_quantiles(workspace: Workspace, records: list[RequestRecord]) -> None:
    ok = [each for each in records if each.status == 200]
    found = told(workspace)
    assert (found["requests"], found["errors"]) == (400, 40)
    assert found["requests_per_minute"] == pytest.approx(400 / 60)
    assert found["tokens"]["prompt"] == sum(each.prompt_tokens or 0 for each in ok)
    assert found["tokens"]["cached"] == 2 * len(ok)
    first = [each.first_token_seconds for each in ok]
    speeds = [
        (each.completion_tokens - 1) / (each.seconds - (each.first_token_seconds or 0))
        for each in ok
        if each.completion_tokens is not None and each.completion_tokens > 1
    ]
    for name, values in {"first_token": first, "tokens_per_second": speeds, "seconds": [e.seconds for e in ok]}.items():
        assert [found[name][each] for each in ("p5", "p50", "p95")] == pytest.approx(
            list(np.quantile(np.array(values, float), [0.05, 0.5, 0.95]))
        )
    assert found["guards"] == [{"guard": "words", "action": "flag", "what": "phrase", "requests": 8}]


def test_the_series_has_every_minute(workspace: Workspace, records: list[RequestRecord]) -> None:
    found = told(workspace)
    assert found["bucket_seconds"] == 60
    assert [point["time"] for point in found["series"]] == [START + 60 * place for place in range(61)]
    assert sum(point["requests"] for point in found["series"]) == 400
    inside = [r for r in records if START + 600 <= r.time < START + 660]
    point = found["series"][10]
    assert (point["requests"], point["errors"]) == (len(inside), sum(r.status != 200 for r in inside))
    firsts = [r.first_token_seconds for r in inside if r.status == 200]
    assert point["first_token"] == pytest.approx(float(np.median(np.array(firsts, float))))
    month = told(workspace, since=START - 30 * 86_400)
    assert len(month["series"]) <= 301
    assert sum(point["requests"] for point in month["series"]) == 400
    assert month["series"][0] == {
        **dict.fromkeys(("requests", "errors", "prompt_tokens", "completion_tokens"), 0),
        "time": month["series"][0]["time"],
        "first_token": None,
        "tokens_per_second": None,
    }


def test_slowest_failed_and_models(workspace: Workspace, records: list[RequestRecord]) -> None:
    found = told(workspace)
    slowest = sorted((r for r in records if r.status == 200), key=lambda r: -r.seconds)[:10]
    assert [row["id"] for row in found["slowest"]] == [r.id for r in slowest]
    failed = sorted((r for r in records if r.status >= 400), key=lambda r: (r.status < 500, -r.time))[:10]
    assert [row["id"] for row in found["failed"]] == [r.id for r in failed]
    assert sum(row["requests"] for row in found["error_codes"]) == 40
    assert {row["model"]: row["requests"] for row in found["models"]} == {
        model: sum(r.model == model for r in records) for model in ("a", "b")
    }
    only = told(workspace, model="a")
    assert only["requests"] == sum(r.model == "a" for r in records)
    assert {row["model"] for row in only["slowest"]} == {"a"}


def test_an_empty_log(workspace: Workspace) -> None:
    found = monitor.summary(workspace)
    assert (found["requests"], found["errors"], found["requests_per_minute"], found["contents"]) == (0, 0, 0.0, 0)
    assert found["first_token"] == {"p5": None, "p50": None, "p95": None}
    assert found["slowest"] == found["failed"] == found["models"] == found["guards"] == []
    assert len(found["series"]) == 289  # a day in stretches of five minutes
    assert not workspace.root.exists()
