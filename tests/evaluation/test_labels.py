from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_recall_fscore_support

from phi3tune.data import Conversation
from phi3tune.data.index import RowIndex
from phi3tune.evaluation import labels
from phi3tune.evaluation.labels import NO_LABEL


def rows(*answers: str) -> list[Conversation]:
    return [
        Conversation(
            ({"role": "user", "content": f"Row {number}?"}, {"role": "assistant", "content": answer}), number, "f"
        )
        for number, answer in enumerate(answers)
    ]


TEXT = Conversation(({"role": "text", "content": "yes"},), 10, "f")


def test_labels_are_few_short_and_frequent() -> None:
    assert labels.label_set(rows(*["yes", " no\n"] * 5)) == ("no", "yes")
    assert labels.label_set(rows(*["yes", "no"] * 4, "no", "maybe")) is None  # 5 rows each, on average
    assert labels.label_set(rows(*["yes"] * 50)) is None
    assert labels.label_set(rows(*["yes", "x" * 61] * 5)) is None
    assert labels.label_set(rows(*["yes", "a\nb"] * 5)) is None
    assert labels.label_set(rows(*[str(number) for number in range(100)] * 5)) is not None
    assert labels.label_set(rows(*[str(number) for number in range(101)] * 5)) is None


def test_plain_text_has_no_labels() -> None:
    assert labels.label_set([*rows(*["yes", "no"] * 5), TEXT]) is None


@pytest.mark.parametrize(
    "given",
    [
        rows(*["yes", " no\n"] * 5),
        rows(*["yes", "no"] * 4, "no", "maybe"),
        rows(*["yes", "x" * 60] * 5),
        rows(*["yes", "x" * 61] * 5),
        rows(*["yes", "a\nb"] * 5),
        rows(*[str(number) for number in range(100)] * 5),
        rows(*[str(number) for number in range(101)] * 5),
        [*rows(*["yes", "no"] * 5), TEXT],
    ],
)
def test_the_rule_is_that_of_the_audit(given: list[Conversation]) -> None:
    index = RowIndex()
    for row in given:
        index.add("all", row)
    assert (index.labels() is None) == (labels.label_set(given) is None)


@pytest.mark.parametrize("seed", range(5))
def test_scores_are_those_of_scikit_learn(seed: int) -> None:
    chance = random.Random(seed)
    known = ["billing", "delivery", "other", "returns"]
    wanted = chance.choices(known[:3], [5, 3, 1], k=200)
    given = [want if chance.random() < 0.6 else chance.choice([*known, NO_LABEL]) for want in wanted]
    found = labels.report(wanted, given)
    classes = sorted(set(wanted))
    expected = precision_recall_fscore_support(wanted, given, labels=classes, zero_division=0)
    for place, entry in enumerate(found["per_class"]):
        assert entry["label"] == classes[place]
        assert [entry[key] for key in ("precision", "recall", "f1", "support")] == [part[place] for part in expected]
    names = found["confusion"]["labels"]
    assert names == [*classes, "returns", NO_LABEL]
    assert found["confusion"]["matrix"] == confusion_matrix(wanted, given, labels=names).tolist()
    right = np.trace(np.array(found["confusion"]["matrix"]))
    assert right / 200 == accuracy_score(wanted, given)
    sums = labels.counts(wanted, given).sum(axis=0)
    assert float(labels.macro_f1(sums)) == pytest.approx(f1_score(wanted, given, labels=classes, average="macro"))


def test_macro_f1_of_resamples() -> None:
    """Many sums at once, and a label that a resample does not want takes no part in its mean."""
    wanted, given = ["a", "a", "b", "b"], ["a", "b", "b", NO_LABEL]
    counts = labels.counts(wanted, given)
    sums = np.stack([counts.sum(axis=0), counts[:2].sum(axis=0)])
    both, only_a = labels.macro_f1(sums).tolist()
    assert both == pytest.approx(f1_score(wanted, given, labels=["a", "b"], average="macro"))
    assert only_a == pytest.approx(f1_score(wanted[:2], given[:2], labels=["a"], average="macro"))


def test_an_answer_that_is_no_label() -> None:
    assert labels.label_of(" billing\n", ["billing", "other"]) == "billing"
    assert labels.label_of("Billing", ["billing", "other"]) == NO_LABEL
    assert labels.label_of("", ["billing", "other"]) == NO_LABEL


def test_report_is_json(tmp_path: Path) -> None:
    found = labels.report(["a", "b"], ["a", NO_LABEL])
    assert json.loads(json.dumps(found)) == found
