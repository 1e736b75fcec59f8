"""Which metrics an evaluation shows, which one its verdict is about, and how each is added up over rows.

A model's value of a metric is a function of sums over rows: `statistic(counts.sum(axis=0))`. So every mean and every
corpus score, and each resample of them, comes from one array of counts.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jsonschema.exceptions import SchemaError
from jsonschema.protocols import Validator
from jsonschema.validators import validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

from phi3tune.config import EvalConfig
from phi3tune.data import Conversation
from phi3tune.errors import UserError
from phi3tune.evaluation import corpus, text
from phi3tune.evaluation.labels import is_text, macro_f1

Statistic = Callable[[np.ndarray], np.ndarray]
MOSTLY = 0.9  # share of the references that a rule about all of them asks for
SHORT_WORDS = 5
BLEU_WORDS = 4  # BLEU counts runs of up to four words: answers without one score 0 however right they are


def _ratio(sums: np.ndarray) -> np.ndarray:
    """Sum of values by sum of weights; NaN where there is no weight."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(sums[..., 0] / sums[..., 1])


def _perplexity(sums: np.ndarray) -> np.ndarray:
    """exp of the mean negative log-likelihood per token."""
    return np.asarray(np.exp(np.minimum(_ratio(sums), 700.0)))


@dataclass(frozen=True)
class Metric:
    """`better` is None where neither more nor less is better; `rows` tells whether single rows have a value."""

    name: str
    title: str
    unit: Literal["share", "number", "tokens", "seconds", "characters"] = "share"
    better: Literal["higher", "lower"] | None = "higher"
    over: Literal["rows", "tokens"] = "rows"
    statistic: Statistic = _ratio
    rows: bool = True

    @property
    def mean_of_shares(self) -> bool:
        """Whether it is the mean over rows of values between 0 and 1."""
        return self.unit == "share" and self.over == "rows" and self.statistic is _ratio

    def describe(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("name", "title", "unit", "better", "over")}


_ALL = [
    Metric("accuracy", "Accuracy"),
    Metric("macro_f1", "Macro F1", statistic=macro_f1, rows=False),
    Metric("exact_match", "Exact match"),
    Metric("exact_match_normalised", "Exact match, normalised"),
    Metric("token_f1", "Token F1"),
    Metric("rouge_l", "ROUGE-L"),
    Metric("chrf", "chrF", statistic=corpus.chrf),
    Metric("bleu", "BLEU", statistic=corpus.bleu, rows=False),
    Metric("numeric_match", "Numeric match"),
    Metric("pattern_match", "Pattern match"),
    Metric("json_valid", "Valid JSON"),
    Metric("json_schema_valid", "Satisfies the JSON schema"),
    Metric("perplexity", "Perplexity", "number", "lower", "tokens", _perplexity),
    Metric("token_accuracy", "Token accuracy", over="tokens"),
    Metric("answer_tokens", "Tokens per answer", "tokens", None),
    Metric("answer_characters", "Characters per answer", "characters", None),
    Metric("cut_share", "Answers cut off", better="lower"),
    Metric("answer_seconds", "Seconds per answer", "seconds", "lower"),
    Metric("first_token_seconds", "Seconds to the first token", "seconds", "lower"),
]
METRICS = {metric.name: metric for metric in _ALL}
_CONDITIONAL = {"accuracy", "macro_f1", "bleu", "numeric_match", "pattern_match", "json_valid", "json_schema_valid"}
LIKELIHOOD = {"perplexity", "token_accuracy"}


@dataclass(frozen=True)
class Plan:
    """What is measured, decided from the references before any answer is seen.

    metrics    in the order of display
    primary    what the verdict is about
    labels     the dataset's labels when its answers are labels
    """

    metrics: tuple[Metric, ...]
    primary: Metric
    labels: tuple[str, ...] | None
    pattern: re.Pattern[str] | None
    schema: Validator | None

    def values(self, answer: str, reference: str) -> dict[str, float]:
        """The metrics of one answer that are means over rows, from its text alone."""
        found = {
            "exact_match": text.exact_match(answer, reference),
            "exact_match_normalised": text.exact_match_normalised(answer, reference),
            "token_f1": text.token_f1(answer, reference),
            "rouge_l": text.rouge_l(answer, reference),
            "numeric_match": text.numeric_match(answer, reference),
            "json_valid": text.parse_json(answer)[0],
        }
        if self.labels is not None:
            found["accuracy"] = text.exact_match(answer, reference)
        if self.pattern is not None:
            found["pattern_match"] = text.pattern_match(answer, reference, self.pattern)
        if self.schema is not None:
            found["json_schema_valid"] = _satisfies(self.schema, answer)
        wanted = {metric.name for metric in self.metrics}
        return {name: float(value) for name, value in found.items() if name in wanted}


def plan(config: EvalConfig, rows: Sequence[Conversation], labels: tuple[str, ...] | None) -> Plan:
    """The metrics that apply to the rows.

    Accuracy and macro F1 apply when the answers are labels, BLEU when most references have four words, numeric match
    when 90 % of them carry a number behind `####`, JSON validity when 90 % are JSON objects or arrays, the pattern and
    the schema when they are given, and each when it is asked for. Rows of plain text are only scored. Raises
    `UserError` when the metric that is asked for cannot be had, or the pattern or the schema is not one.
    """
    references = [row.reference for row in rows if not is_text(row)]
    pattern = _pattern(config.pattern, references)
    schema = _schema(config.json_schema)
    applying = {
        "accuracy": labels is not None,
        "macro_f1": labels is not None,
        "bleu": _share(lambda each: len(each.split()) >= BLEU_WORDS, references) > 0.5,
        "numeric_match": _share(text.has_marked_number, references) >= MOSTLY or config.metric == "numeric_match",
        "pattern_match": pattern is not None,
        "json_valid": schema is not None
        or config.metric == "json_valid"
        or _share(text.is_json_document, references) >= MOSTLY,
        "json_schema_valid": schema is not None,
    }
    missing = {
        "accuracy": "the answers of this dataset are no labels (few, short, each of them in several rows)",
        "pattern_match": "it needs --pattern",
        "json_schema_valid": "it needs --json-schema",
    }
    if not applying.get(config.metric, True):
        raise UserError(f"metric {config.metric} cannot be had: {missing[config.metric]}; choose another, or auto")
    names = [name for name in METRICS if name not in _CONDITIONAL or applying[name]]
    if not references:
        names = [name for name in names if name in LIKELIHOOD]
        if config.metric not in ("auto", *names):
            raise UserError(f"metric {config.metric} cannot be had: plain text is only scored; choose auto")
    primary = config.metric if config.metric != "auto" else _choose(references, labels)
    return Plan(tuple(METRICS[name] for name in names), METRICS[primary], labels, pattern, schema)


def _choose(references: Sequence[str], labels: Sequence[str] | None) -> str:
    """What a person would ask first: the label, the number, the whole answer, or for free text how much is shared.

    The whole answer counts where most references are of at most 5 words or are the reference of other rows, too.
    """
    if not references:
        return "perplexity"
    if labels is not None:
        return "accuracy"
    if _share(text.has_marked_number, references) >= MOSTLY:
        return "numeric_match"
    times = Counter(reference.strip() for reference in references)
    closed = _share(lambda each: times[each.strip()] > 1 or len(each.split()) <= SHORT_WORDS, references)
    return "exact_match" if closed > 0.5 else "token_f1"


def _share(holds: Callable[[str], bool], references: Sequence[str]) -> float:
    return sum(map(holds, references)) / len(references) if references else 0.0


def _pattern(given: str | None, references: Sequence[str]) -> re.Pattern[str] | None:
    if given is None:
        return None
    try:
        pattern = re.compile(given)
    except re.error as error:
        raise UserError(f"pattern {given[:200]!r} is no regular expression: {error}") from None
    if pattern.groups and not any(map(pattern.search, references)):
        raise UserError(
            f"pattern {given[:200]!r} has a group to compare with the references, but is found in none of them; "
            "change it, or write the group as (?:...) to look at the answers only"
        )
    return pattern


def _schema(given: str | None) -> Validator | None:
    if given is None:
        return None
    try:
        value = json.loads(Path(given).expanduser().read_text(encoding="utf-8"))
        kind = validator_for(value)
        kind.check_schema(value)
    except OSError as error:
        raise UserError(f"the JSON schema {given} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"the JSON schema {given} is not JSON: {error}") from None
    except SchemaError as error:
        raise UserError(f"{given} is not a JSON schema: {error.message}") from None
    # An own registry, because the usual one fetches what a schema refers to from the network.
    validator: Validator = kind(value, registry=Registry())
    return validator


def _satisfies(schema: Validator, answer: str) -> bool:
    valid, value = text.parse_json(answer)
    try:
        return valid and schema.is_valid(value)
    except Unresolvable as error:
        raise UserError(f"the JSON schema refers to {error.ref!r}, which is not in its file; put it there") from None
