"""Guards that judge a whole text: classifiers of ours, and moderation endpoints."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from phi3tune import guardrails
from phi3tune.engines.base import EngineError
from phi3tune.errors import ConfigError
from phi3tune.guardrails import Guards, Hit
from phi3tune.paths import NANO, Workspace
from tests.fake_server import running

RUDE = {"name": "manners", "type": "classifier", "labels": ["rude"], "threshold": 0.6}
REFUSED = {"name": "policy", "type": "moderation", "key_variable": "MODERATION_KEY"}


class FakePool:
    """Texts with "dolt" are rude by 0.9, those with "hm" by 0.55; very long ones are cut."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.fault: Exception | None = None

    def classify(self, ref: Any, inputs: Sequence[str]) -> list[dict[str, Any]]:
        if self.fault is not None:
            raise self.fault
        self.asked += inputs
        [text] = inputs
        rude = 0.9 if "dolt" in text else 0.55 if "hm" in text else 0.1
        scores = {"rude": rude, "kind": 1 - rude}
        label = max(scores, key=lambda name: scores[name])
        return [{"label": label, "score": scores[label], "scores": scores, "truncated": len(text) > 1_000}]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a classifier as its small files tell it; its weights are never loaded."""
    folder = tmp_path_factory.mktemp("models") / "manners"
    shutil.copytree(NANO, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"architectures": ["Phi3ForSequenceClassification"], "id2label": {"0": "rude", "1": "kind"}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def load(folder: Path, pool: FakePool | None = None, **guard: Any) -> Guards:
    path = folder / "guards.yaml"
    path.write_text(yaml.safe_dump([guard]))
    return guardrails.load(path, Workspace(folder), pool=cast(Any, pool))


def test_a_classifier_blocks_masks_and_flags(classifier: Path, tmp_path: Path) -> None:
    pool = FakePool()
    for action, shown in (("block", ""), ("mask", "[manners]"), ("flag", "you dolt")):
        guards = load(tmp_path, pool, **RUDE, model=str(classifier), action=action)
        assert guards.check_output("how kind").action == "pass"
        assert guards.check_output("hm").action == "pass"  # likeliest, but below the threshold
        verdict = guards.check_output("you dolt")
        assert verdict.hits == (Hit("manners", cast(Any, action), "rude"),)
        said = list(guards.stream(["you ", "dolt"]))
        assert "".join(text for text, _ in said) == shown
        assert said[-1][1] == verdict.hits
        # Where it only flags, nothing waits for the end.
        assert (said[0][0] == "you ") == (action == "flag")


def test_a_history_is_judged_once(classifier: Path, tmp_path: Path) -> None:
    pool = FakePool()
    guards = load(tmp_path, pool, **RUDE, model=str(classifier))
    chat: list[Any] = [{"role": "user", "content": "Hello"}]
    guards.check_input(chat)
    guards.check_input([*chat, {"role": "assistant", "content": "Yes?"}, {"role": "user", "content": "Who?"}])
    assert pool.asked == ["Hello", "Yes?", "Who?"]


@pytest.mark.parametrize("fault", [EngineError("it ended"), None])
def test_what_a_classifier_cannot_read_is_blocked(classifier: Path, tmp_path: Path, fault: Exception | None) -> None:
    pool = FakePool()
    pool.fault = fault
    text = "you dolt" if fault is not None else "word " * 1_000
    told = "not checked: it ended" if fault is not None else "not checked: the text is longer than the context"
    closed = load(tmp_path, pool, **RUDE, model=str(classifier))
    assert closed.check_output(text).blocked
    assert closed.check_output(text).hits[0].what.startswith(told)
    for setting in ({"on_error": "pass"}, {"action": "flag"}):
        opened = load(tmp_path, pool, **RUDE, model=str(classifier), **setting).check_output(text)
        assert (opened.action, opened.text) == ("flag", text)
    strict = load(tmp_path, pool, **RUDE, model=str(classifier), action="flag", on_error="block")
    assert "".join(shown for shown, _ in strict.stream([text])) == ""


def test_classifiers_and_labels_that_are_none(classifier: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"label 'angry' is not one of .*its labels are: rude, kind"):
        load(tmp_path, **{**RUDE, "labels": ["angry"]}, model=str(classifier))
    with pytest.raises(ConfigError, match="is no classifier"):
        load(tmp_path, **RUDE, model="phi3-nano")


# --- Moderation


def moderated(body: dict[str, Any]) -> tuple[int, Any]:
    bad = "dolt" in body["input"]
    categories = {"harassment": bad, "hate": False, "self-harm": False}
    return 200, {
        "id": "m",
        "model": "m",
        "results": [{"flagged": bad, "categories": categories, "category_scores": {}}],
    }


@contextmanager
def moderation(reply: Callable[[dict[str, Any]], tuple[int, Any]] = moderated) -> Iterator[Any]:
    with running(_Handler) as server:
        server.reply, server.seen = reply, []  # type: ignore[attr-defined]
        yield server


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((self.path, self.headers["Authorization"], body))  # type: ignore[attr-defined]
        status, answer = self.server.reply(body)  # type: ignore[attr-defined]
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def url(server: Any) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}/v1"


def test_a_moderation_endpoint_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODERATION_KEY", "canary-key")
    with moderation() as server:
        guards = load(tmp_path, **REFUSED, url=url(server), model="m-1")
        assert guards.check_output("how kind").action == "pass"
        verdict = guards.check_output("you dolt")
        assert (verdict.action, verdict.hits[0].what) == ("block", "harassment")
        assert server.seen[-1] == ("/v1/moderations", "Bearer canary-key", {"input": "you dolt", "model": "m-1"})
        other = load(tmp_path, **REFUSED, url=url(server), categories=["hate"])
        assert other.check_output("you dolt").action == "pass"


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        ((503, {}), "answered with status 503"),
        ((200, {"results": "none"}), "does not answer as OpenAI's moderations do"),
        ((200, []), "does not answer as OpenAI's moderations do"),
    ],
)
def test_an_endpoint_that_does_not_answer(tmp_path: Path, reply: tuple[int, Any], told: str) -> None:
    with moderation(lambda body: reply) as server:
        closed = load(tmp_path, **REFUSED, url=url(server)).check_output("x")
        opened = load(tmp_path, **REFUSED, url=url(server), on_error="pass").check_output("x")
    assert (closed.action, opened.action) == ("block", "flag")
    assert told in closed.hits[0].what


def test_an_endpoint_that_is_not_there(tmp_path: Path) -> None:
    verdict = load(tmp_path, **REFUSED, url="http://127.0.0.1:9/v1", time_limit=2).check_output("x")
    assert verdict.blocked
    assert "cannot be asked" in verdict.hits[0].what
