from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest

from phi3tune.config import EvalConfig, Metric
from phi3tune.data import Conversation
from phi3tune.errors import UserError
from phi3tune.evaluation.metrics import METRICS, Plan, plan

SCHEMA = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}


def rows(*references: str) -> list[Conversation]:
    return [
        Conversation(
            ({"role": "user", "content": f"Row {number}?"}, {"role": "assistant", "content": reference}), number, "f"
        )
        for number, reference in enumerate(references)
    ]


def planned(*references: str, labels: tuple[str, ...] | None = None, **settings: Any) -> Plan:
    return plan(EvalConfig(**settings), rows(*references), labels)


def names(found: Plan) -> set[str]:
    return {metric.name for metric in found.metrics}


FREE = tuple(f"This is the long and free answer to question {number}." for number in range(10))


@pytest.mark.parametrize(
    ("references", "primary"),
    [
        (FREE, "token_f1"),
        (FREE[:1] * 10, "exact_match"),  # few answers
        (("Clockwise.", "Red, and no other.", "Off", *FREE[:2]), "exact_match"),  # short ones
        (tuple(f"{number} and one, of course.\n#### {number + 1}" for number in range(10)), "numeric_match"),
    ],
    ids=["free", "few", "short", "numbers"],
)
def test_primary_metric_comes_from_the_references(references: tuple[str, ...], primary: str) -> None:
    assert planned(*references).primary.name == primary


def test_labels_come_first() -> None:
    found = planned("yes", "no", labels=("no", "yes"))
    assert found.primary.name == "accuracy"
    assert [metric.name for metric in found.metrics][:3] == ["accuracy", "macro_f1", "exact_match"]
    assert planned("yes", "no", labels=("no", "yes"), metric="token_f1").primary.name == "token_f1"


def test_only_what_applies_is_shown() -> None:
    special = {"accuracy", "macro_f1", "numeric_match", "pattern_match", "json_valid", "json_schema_valid"}
    assert names(planned(*FREE)) == set(METRICS) - special
    assert "numeric_match" in names(planned(*FREE, metric="numeric_match"))
    assert "pattern_match" in names(planned(*FREE, pattern="free"))
    assert "json_valid" in names(planned('{"a": 1}', "[1]"))
    assert "json_valid" not in names(planned("42", "17"))
    assert "json_valid" in names(planned(*FREE, metric="json_valid"))


def test_every_metric_of_the_settings_is_known() -> None:
    assert set(get_args(Metric)) - {"auto"} <= set(METRICS)


def test_plain_text_is_only_scored() -> None:
    text = [Conversation(({"role": "text", "content": "Once upon a time."},), 0, "f")]
    found = plan(EvalConfig(), text, None)
    assert names(found) == {"perplexity", "token_accuracy"}
    assert found.primary.name == "perplexity"
    assert plan(EvalConfig(metric="token_accuracy"), text, None).primary.name == "token_accuracy"
    with pytest.raises(UserError, match="plain text is only scored"):
        plan(EvalConfig(metric="exact_match"), text, None)


def test_values_of_an_answer() -> None:
    asked = planned(*FREE, pattern="is the", metric="numeric_match")
    found = asked.values("This is the ANSWER 3", "this is the answer 3.0")
    assert (found["exact_match"], found["pattern_match"], found["numeric_match"]) == (0.0, 1.0, 1.0)
    text = {"exact_match", "exact_match_normalised", "token_f1", "rouge_l"}
    assert found.keys() == {*text, "numeric_match", "pattern_match"}


def test_json_schema(tmp_path: Path) -> None:
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(SCHEMA))
    found = planned('{"name": "a"}', json_schema=str(path), metric="json_schema_valid")
    assert found.primary.name == "json_schema_valid"
    said = {'{"name": "b"}': (1.0, 1.0), '{"name": 3}': (1.0, 0.0), '{"name": "b"': (0.0, 0.0)}
    for answer, expected in said.items():
        values = found.values(answer, '{"name": "a"}')
        assert (values["json_valid"], values["json_schema_valid"]) == expected


def test_a_schema_fetches_nothing(tmp_path: Path) -> None:
    path = tmp_path / "schema.json"
    path.write_text(json.dumps({"$ref": "https://host.example/schema.json"}))
    with pytest.raises(UserError, match="which is not in its file"):
        planned("{}", json_schema=str(path)).values("{}", "{}")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"metric": "accuracy"}, "no labels"),
        ({"metric": "pattern_match"}, "needs --pattern"),
        ({"metric": "json_schema_valid"}, "needs --json-schema"),
        ({"pattern": "("}, "no regular expression"),
        ({"pattern": "order ([0-9]+)"}, "found in none"),
        ({"json_schema": "missing.json"}, "cannot be read"),
        ({"json_schema": "broken"}, "is not JSON"),
        ({"json_schema": "wrong"}, "is not a JSON schema"),
    ],
)
def test_mistakes(settings: dict[str, Any], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken").write_text("{")
    Path("wrong").write_text('{"type": 3}')
    with pytest.raises(UserError, match=told):
        planned(*FREE, **settings)
