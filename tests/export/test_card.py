from __future__ import annotations

import json

import pytest
import yaml

from phi3tune.export import card, page, provenance
from phi3tune.paths import Workspace, write_json
from tests.ended_runs import ended_run
from tests.evaluation.example_report import report as example_report
from tests.fake_builds import fake_build, parity_report


def head(text: str) -> dict[str, object]:
    found = yaml.safe_load(text.split("---\n")[1])
    assert isinstance(found, dict)
    return found


def test_card_of_a_build(workspace: Workspace) -> None:
    text = card.text(fake_build(workspace, "lamp"), workspace, repo="ada/lamp-int4")
    assert head(text)["library_name"] == "onnxruntime-genai"
    assert "# lamp-int4\n" in text
    assert 'og.Model(snapshot_download("ada/lamp-int4"))' in text
    assert "| lora rank | 4 |" in text
    assert f"Data: chats, sha256 `{'5e' * 32}`" in text
    assert "| Measure | Limit | Short prompts | 256 tokens (25%) |" in text
    assert "| Mean KL divergence, nats | at most 0.02 | 3.00e-03 |" in text
    assert "| Decode | 810.5 tokens/s |" in text
    assert "chats &lt;b&gt;" in text or r"chats \<b\>" in text
    assert "`<|end|>`" in text.partition("## Limits")[2]
    assert str(workspace.root) not in text


def test_card_of_a_failing_build_says_so(workspace: Workspace) -> None:
    text = card.text(fake_build(workspace, "lamp", passed=False), workspace)
    assert "FAILS parity" in text.partition("## Use")[0]
    assert "at 1,024 tokens" in text


def test_card_holds_the_newest_evaluation_without_endpoints(workspace: Workspace) -> None:
    path = fake_build(workspace, "lamp")
    report = example_report()
    report["models"][1]["model"] = "lamp"
    report["judge"] = None
    folder = workspace.runs / "lamp" / "eval" / "test-eval-1"
    write_json(folder / "report.json", report)
    assert "## Evaluation" in card.text(path, workspace)
    report["models"][0]["model"] = "http://10.0.0.7:8000/v1"
    write_json(folder / "report.json", report)
    assert "## Evaluation" not in card.text(path, workspace)


@pytest.mark.parametrize(
    ("model", "base", "hub", "licence"),
    [
        ("phi3-nano", "phi3-nano", False, "apache-2.0"),
        ("microsoft/Phi-3-mini-4k-instruct@abc", "microsoft/Phi-3-mini-4k-instruct", True, "mit"),
        ("ada/own-phi", "ada/own-phi", True, None),
        ("/data/secret/my-phi", "my-phi", False, None),
        (
            "/x/hub/models--microsoft--Phi-3.5-mini-instruct/snapshots/9a",
            "microsoft/Phi-3.5-mini-instruct",
            True,
            "mit",
        ),
        ("first", "ada/own-phi", True, None),
    ],
)
def test_base_by_its_public_name(workspace: Workspace, model: str, base: str, hub: bool, licence: str | None) -> None:
    ended_run(workspace, "first", model="ada/own-phi")
    run = ended_run(workspace, "lamp", model=model)
    found = provenance.of(run / "adapter", workspace)
    assert (found.base, found.hub, found.licence) == (base, hub, licence)
    text = card.text(run / "adapter", workspace)
    assert "/data" not in text
    assert head(text).get("base_model") == (base if hub else None)


def test_merged_weights_serve_with_vllm(workspace: Workspace) -> None:
    path = fake_build(workspace, "lamp")
    (path / "genai_config.json").unlink()
    text = card.text(path, workspace, repo="ada/lamp")
    assert "vllm serve ada/lamp" in text
    assert 'pipeline("text-generation", "ada/lamp")' in text


def test_page_needs_nothing_and_escapes(workspace: Workspace) -> None:
    text = page.page(parity_report(passed=False), "lamp <img onerror=x>")
    assert "<img" not in text
    assert "<script" not in text
    assert "chats &lt;b&gt;" in text
    assert "FAILED" in text
    assert "mean KL 0.5 at 1,024 tokens is above 0.02" in text
    assert text.count('<th scope="col"') == 7  # measure, limit, short, four lengths
    assert "PASSED" in page.page(parity_report(), "lamp")


def test_page_of_a_build_without_numbers() -> None:
    report = parity_report(passed=False)
    report |= {"kl_mean": None, "perplexity_ratio": None}
    assert "not a number" in page.page(report, "lamp")


def test_page_of_a_classifier_and_of_an_older_report() -> None:
    labels = {
        "schema": 1, "precision": "int8", "task": "classification", "rows": 9, "same_label": 1.0,
        "max_difference": 0.05, "mean_difference": 0.01, "passed": True,
        "limits": {"same_label": 0.98, "max_difference": 0.2},
    }  # fmt: skip
    assert "Same label" in page.page(labels, "mood")
    old = {k: v for k, v in parity_report().items() if k not in ("contexts", "missed", "measured", "data")}
    assert "Mean KL divergence" in page.page(old, "lamp")


def test_written_beside_the_build(workspace: Workspace) -> None:
    path = fake_build(workspace, "lamp")
    card.write(path, workspace, name="int4")
    assert (path / "README.md").read_text() == card.text(path, workspace)
    assert "lamp, int4" in (path / "parity.html").read_text()
    assert json.loads((path / "parity.json").read_text())["passed"] is True
