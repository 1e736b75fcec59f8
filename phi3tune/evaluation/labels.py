"""Answers that are labels: the closed set that a dataset draws them from, and how a classifier is scored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from phi3tune.data import Conversation
from phi3tune.data.index import LONGEST_LABEL, MOST_LABELS, ROWS_PER_LABEL
from phi3tune.errors import UserError

NO_LABEL = "(no label)"
MOST_CLASSES = 200


def is_text(row: Conversation) -> bool:
    """Whether a row is plain text, which has likelihoods but no answer."""
    return row.messages[-1]["role"] == "text"


def label_set(rows: Iterable[Conversation]) -> tuple[str, ...] | None:
    """The labels of a dataset, in alphabetical order, or None when its answers are no labels.

    They are labels when there are 2 to 100 different last answers, with 5 rows each on average, and each is one line
    of at most 60 characters. White space at either end does not count. It is the rule by which the audit counts
    labels and the division keeps them in balance.
    """
    rows = list(rows)
    counts = Counter(row.reference.strip() for row in rows)
    if any(map(is_text, rows)) or not 2 <= len(counts) <= MOST_LABELS or counts.total() < ROWS_PER_LABEL * len(counts):
        return None
    if any(len(label) > LONGEST_LABEL or "\n" in label for label in counts):
        return None
    return tuple(sorted(counts))


def classes(rows: Iterable[Conversation]) -> tuple[str, ...]:
    """The labels that a classifier chooses from, in alphabetical order: each different last answer of the rows.

    Raises `UserError` unless there are 2 to 200 of them, each one line of at most 60 characters. Fewer rows than
    `label_set` asks for will do: here a person has said that the answers are labels.
    """
    rows = list(rows)
    plain = next((row for row in rows if is_text(row)), None)
    if plain is not None:
        raise UserError(
            f"{plain.file} row {plain.row} is plain text, which has no label; use rows with a question and its label"
        )
    found = sorted({row.reference.strip() for row in rows})
    if not 2 <= len(found) <= MOST_CLASSES:
        raise UserError(
            f"the dataset has {len(found):,} different answers; --task classification takes 2 to {MOST_CLASSES} "
            "labels; use --task chat for free answers"
        )
    long = next((label for label in found if len(label) > LONGEST_LABEL or "\n" in label), None)
    if long is not None:
        raise UserError(
            f"the answer {long[:80]!r} is no label: a label is one line of at most {LONGEST_LABEL} characters; "
            "shorten it, or use --task chat"
        )
    return tuple(found)


def label_of(answer: str, labels: Sequence[str]) -> str:
    """The label that an answer is; `(no label)` for any other text."""
    answer = answer.strip()
    return answer if answer in labels else NO_LABEL


def report(wanted: Sequence[str], given: Sequence[str]) -> dict[str, Any]:
    """Precision, recall and F1 of every label that is wanted, and the confusion matrix, from scikit-learn.

    Rows of the matrix are the labels wanted, columns those given; an answer that is no label is a column of its own.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    classes = sorted(set(wanted))
    scores = precision_recall_fscore_support(wanted, given, labels=classes, zero_division=0.0)
    others = sorted(set(given) - set(classes) - {NO_LABEL})
    names = [*classes, *others, *([NO_LABEL] if NO_LABEL in given else [])]
    return {
        "per_class": [
            {"label": label, "precision": float(p), "recall": float(r), "f1": float(f), "support": int(n)}
            for label, p, r, f, n in zip(classes, *scores, strict=True)
        ],
        "confusion": {"labels": names, "matrix": confusion_matrix(wanted, given, labels=names).tolist()},
    }


def counts(wanted: Sequence[str], given: Sequence[str]) -> np.ndarray:
    """What adds up to macro F1, float64 [rows, 3 x classes]: right answers, answers given and answers wanted."""
    place = {label: number for number, label in enumerate(sorted(set(wanted)))}
    found = np.zeros((len(wanted), 3, len(place)))
    for row, (want, give) in enumerate(zip(wanted, given, strict=True)):
        found[row, 2, place[want]] = 1
        if give in place:
            found[row, 1, place[give]] = 1
            found[row, 0, place[give]] = give == want
    return found.reshape(len(wanted), -1)


def macro_f1(sums: np.ndarray) -> np.ndarray:
    """Mean F1 over the labels that are wanted, from sums of `counts` [..., 3 x classes].

    It is scikit-learn's `f1_score(average="macro", zero_division=0)` with the wanted labels as `labels`.
    """
    right, given, wanted = np.moveaxis(sums.reshape(*sums.shape[:-1], 3, -1), -2, 0)
    f1 = np.divide(2 * right, given + wanted, out=np.zeros_like(right), where=given + wanted > 0)
    present = (wanted > 0).sum(-1)
    return np.asarray(np.where(wanted > 0, f1, 0.0).sum(-1) / np.maximum(present, 1))
