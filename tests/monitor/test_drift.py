"""Drift: quiet on requests like the training data, plain words on others."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from phi3tune import monitor
from phi3tune.chat import Renderer
from phi3tune.config import read_yaml
from phi3tune.monitor import RequestLog, RequestRecord, profiles
from phi3tune.monitor.drift import newcombe
from phi3tune.paths import NANO, Workspace
from tests.monitor.conftest import RUN, question

STRANGE = "Compose a sonnet about {number} glaciers and quarrelling astronomers near Reykjavik"


def ask(workspace: Workspace, questions: list[str], *, answer: str = "The lamp is on.", model: str = RUN) -> None:
    renderer = Renderer.load(NANO)
    log = RequestLog(workspace)
    for number, text in enumerate(questions):
        messages = [{"role": "user", "content": text}]
        log.add(
            RequestRecord(
                id=f"{model}-{number}-{text[:8]}",
                time=time.time(),
                model=model,
                kind="chat",
                status=200,
                seconds=1.0,
                prompt_tokens=len(renderer.prompt(messages)),  # type: ignore[arg-type]
                messages=messages,  # type: ignore[arg-type]
                answer=answer if number % 10 else "I'm sorry, but I can't help with that.",
            )
        )
    log.close()
    assert log.dropped == 0


def test_requests_like_the_training_data(workspace: Workspace, run: Path) -> None:
    ask(workspace, [question(number) for number in range(60)])
    found = monitor.drift(workspace, RUN)
    assert (found["requests"], found["large"]) == (60, False)
    assert found["sentence"] == f"The last 60 requests to {RUN} are like its training data."
    assert found["unseen_words"]["requests"] == 0.0
    assert found["prompt_length"]["training_median"] == found["prompt_length"]["requests_median"]
    assert found["refusals"]["training"] == pytest.approx(0.1, abs=0.02)
    assert found["refusals"]["requests"] == 0.1


def test_other_requests_are_told_in_a_sentence(workspace: Workspace, run: Path) -> None:
    ask(workspace, [STRANGE.format(number=number) for number in range(60)], answer="I can't help with that.")
    found = monitor.drift(workspace, RUN)
    assert found["large"] is True
    assert all(found[name]["large"] for name in ("prompt_length", "unseen_words", "refusals"))
    assert found["unseen_words"]["requests"] > 0.5
    for words in (
        "prompts are longer (median",
        "do not occur in training",
        "100% of answers are refusals, in training",
    ):
        assert words in found["sentence"]


def test_a_profile_holds_no_text(workspace: Workspace, run: Path) -> None:
    profile = profiles.of_model(RUN, workspace)
    text = (run / profiles.FILE).read_text().lower()
    assert profile.rows == len(json.loads((run / "dataset.json").read_text())["split"]["train"])
    assert not any(word in text for word in ("lamp", "kitchen", "cellar"))
    assert profiles.of_model(RUN, workspace) == profile  # read back from the file
    assert profiles.of_model(f"{RUN}/merged", workspace) == profile


def test_new_words_are_counted_leaving_the_row_out(workspace: Workspace, run: Path, tmp_path: Path) -> None:
    """Each training turn is looked at as if its row were not there: that is what new text of the kind brings."""
    from phi3tune import data
    from phi3tune.config import TrainConfig, to_yaml
    from phi3tune.paths import write_json

    path = tmp_path / "words.jsonl"
    rows = [("alpha beta", "x"), ("alpha gamma gamma delta", "y"), ("alpha beta", "z"), ("delta", "w")] + [
        (f"alpha beta {number}", "v") for number in range(8)
    ]
    path.write_text("".join(json.dumps({"prompt": a, "completion": b}) + "\n" for a, b in rows))
    config = TrainConfig(model=str(NANO), dataset=str(path))
    (run / "run.yaml").write_text(to_yaml(config))
    dataset = data.load(config, workspace)
    write_json(run / "dataset.json", dataset.record())
    texts = [c.messages[0]["content"].split() for c in dataset.parts["train"]]
    shares = [
        sum(not any(word in other for place, other in enumerate(texts) if place != own) for word in text) / len(text)
        for own, text in enumerate(texts)
    ]
    profile = profiles.of_model(RUN, workspace)
    assert profile.unseen[0] == pytest.approx(sum(shares) / len(shares))
    assert profile.turns == len(shares)


def test_what_cannot_be_told_is_said(workspace: Workspace, run: Path, tmp_path: Path) -> None:
    nano = monitor.drift(workspace, "phi3-nano")
    assert nano["large"] is None
    assert "was not tuned here" in nano["sentence"]
    settings = run / "run.yaml"
    dataset = Path(read_yaml(settings)["dataset"])
    changed = tmp_path / "changed.jsonl"
    changed.write_text(dataset.read_text().replace("hall", "garage"))
    settings.write_text(settings.read_text().replace(str(dataset), str(changed)))
    assert "was changed after training" in monitor.drift(workspace, RUN)["sentence"]
    changed.unlink()
    gone = monitor.drift(workspace, RUN)
    assert gone["large"] is None
    assert str(changed) in gone["sentence"]


def test_few_requests_say_nothing(workspace: Workspace, run: Path) -> None:
    ask(workspace, [STRANGE] * 5)
    found = monitor.drift(workspace, RUN)
    assert (found["requests"], found["large"]) == (5, None)
    assert "5 requests are too few" in found["sentence"]


def test_the_interval_of_two_shares() -> None:
    """Example (a) of Newcombe 1998, table II, method 10."""
    difference, low, high = newcombe(56, 70, 48, 80, level=0.95)
    assert (round(difference, 4), round(low, 4), round(high, 4)) == (0.2, 0.0524, 0.3339)
