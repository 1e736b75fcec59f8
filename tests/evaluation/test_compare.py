from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import sacrebleu
from sklearn.metrics import f1_score

from phi3tune.config import EvalConfig
from phi3tune.data import Conversation
from phi3tune.engines.models import ModelRef
from phi3tune.evaluation.compare import Comparison
from phi3tune.evaluation.likelihood import Likelihood
from phi3tune.evaluation.measures import Measures
from phi3tune.evaluation.metrics import METRICS, plan
from phi3tune.evaluation.progress import Answer

REFS = [ModelRef(name, name, "torch", None) for name in ("base", "tuned")]


def rows(references: Sequence[str]) -> list[Conversation]:
    return [
        Conversation(({"role": "user", "content": "?"}, {"role": "assistant", "content": reference}), number, "f")
        for number, reference in enumerate(references)
    ]


def measured(
    references: Sequence[str],
    *models: Sequence[str | None],
    labels: tuple[str, ...] | None = None,
    losses: Sequence[Sequence[float]] | None = None,
    **settings: Any,
) -> tuple[list[Measures], Comparison]:
    """Models that gave these answers; `losses` are the sums of nll of each row, over two tokens each."""
    config = EvalConfig(resamples=2000, **settings)
    asked = rows(references)
    chosen = plan(config, asked, labels)
    found = []
    for number, said in enumerate(models):
        nll = [Likelihood(loss, 2, 1, False, ()) for loss in losses[number]] if losses else [None] * len(said)
        answers = {
            place: Answer(place, text=answer, likelihood=each)
            for place, (answer, each) in enumerate(zip(said, nll, strict=True))
        }
        found.append(Measures(chosen, asked, answers))
    return found, Comparison(chosen, found, REFS, config)


def test_better_by_many_rows() -> None:
    references = ["Yes."] * 100
    base, tuned = ["No."] * 90 + ["Yes."] * 10, ["Yes."] * 95 + ["No."] * 5
    _, comparison = measured(references, base, tuned)
    found = comparison.against_first(1)
    assert (found["model"], found["against"], found["metric"]) == ("tuned", "base", "exact_match")
    assert (found["wins"], found["losses"], found["ties"]) == (90, 5, 5)
    assert found["verdict"] == "better"
    assert found["rows_needed"] is None
    change = found["differences"]["exact_match"]
    assert change["difference"] == pytest.approx(0.85)
    low, high = f"{100 * change['low']:.1f}", f"{100 * change['high']:.1f}"
    assert found["sentence"] == (
        f"tuned is better than base: exact match +85.0 points (95 % interval {low} to {high}), 100 rows."
    )
    assert 0.7 < change["low"] < 0.85 < change["high"] < 0.95
    assert found["p_value"] < 1e-15


def test_worse() -> None:
    _, comparison = measured(["Yes."] * 60, ["Yes."] * 60, ["No."] * 30 + ["Yes."] * 30)
    found = comparison.against_first(1)
    assert found["verdict"] == "worse"
    assert found["sentence"].startswith("tuned is worse than base: exact match -50.0 points (95 % interval -")


def test_too_few_rows_says_how_many_would_do() -> None:
    _, comparison = measured(["Yes."] * 40, ["Yes."] * 20 + ["No."] * 20, ["No."] * 4 + ["Yes."] * 22 + ["No."] * 14)
    found = comparison.against_first(1)
    assert found["verdict"] == "undecided"
    assert found["rows_needed"] > 40
    assert found["sentence"].startswith(
        "Not enough rows to say whether tuned is better or worse than base: exact match"
    )
    assert found["sentence"].endswith(f"40 rows; about {found['rows_needed']:,} would be enough.")


def test_no_difference_at_all() -> None:
    _, comparison = measured(["Yes."] * 40, ["No."] * 40, ["No."] * 40)
    found = comparison.against_first(1)
    assert (found["verdict"], found["rows_needed"], found["p_value"]) == ("undecided", None, 1.0)
    assert found["sentence"].endswith("40 rows.")
    change = found["differences"]["exact_match"]
    assert change["low"] < 0 < change["high"]


def test_lower_perplexity_is_better() -> None:
    random = np.random.default_rng(0)
    losses = random.gamma(4, 0.5, 80)
    text = [Conversation(({"role": "text", "content": "Once."},), number, "f") for number in range(80)]
    config = EvalConfig(resamples=2000)
    chosen = plan(config, text, None)
    found = [
        Measures(chosen, text, {p: Answer(p, likelihood=Likelihood(v, 2, 1, False, ())) for p, v in enumerate(each)})
        for each in (losses, 0.8 * losses)
    ]
    comparison = Comparison(chosen, found, REFS, config).against_first(1)
    base, tuned = np.exp(losses.mean() / 2), np.exp(0.8 * losses.mean() / 2)
    assert comparison["verdict"] == "better"
    assert comparison["differences"]["perplexity"]["difference"] == pytest.approx(tuned - base)
    assert (comparison["wins"], comparison["losses"]) == (80, 0)
    assert comparison["sentence"].startswith(
        f"tuned is better than base: perplexity {tuned - base:.2f} (95 % interval -"
    )


def test_every_value_lies_in_its_interval() -> None:
    random = np.random.default_rng(1)
    words = np.array(["red", "blue", "green", "very", "lamp", "light"])
    references = [" ".join(random.choice(words, 7)) for _ in range(60)]
    base = [" ".join(random.choice(words, 7)) for _ in range(60)]
    tuned = [reference if random.random() < 0.6 else other for reference, other in zip(references, base, strict=True)]
    losses = [random.gamma(4, 0.5, 60), random.gamma(2, 0.5, 60)]
    measures, comparison = measured(references, base, tuned, losses=losses)
    for place, each in enumerate(measures):
        intervals = comparison.intervals(place)
        for name in ("token_f1", "rouge_l", "chrf", "bleu", "perplexity", "answer_characters"):
            low, high = intervals[name]
            value = each.value(METRICS[name])
            assert value is not None
            assert low < value < high or low == value == high, name
    changes = comparison.against_first(1)["differences"]
    for name in ("token_f1", "rouge_l", "chrf", "bleu"):
        assert 0 < changes[name]["low"] < changes[name]["difference"] < changes[name]["high"]
    assert measures[1].value(METRICS["bleu"]) == pytest.approx(sacrebleu.corpus_bleu(tuned, [references]).score / 100)
    assert measures[1].value(METRICS["chrf"]) == pytest.approx(sacrebleu.corpus_chrf(tuned, [references]).score / 100)


def test_corpus_intervals_are_those_of_resampled_rows() -> None:
    """Perplexity, macro F1 and BLEU of the very rows that were drawn, each computed anew by its library."""
    random = np.random.default_rng(2)
    labels = tuple(f"the answer is {letter}" for letter in "abc")
    references = random.choice(labels, 40).tolist()
    given = [r if random.random() < 0.7 else labels[1] for r in references]
    losses = random.gamma(4, 0.5, 40)
    (each,), comparison = measured(references, given, labels=labels, losses=[losses.tolist()], metric="accuracy")
    draws = np.random.default_rng(0).integers(40, size=(2000, 40))  # what the seed of the settings draws
    drawn = comparison._drawn[0]
    for place in range(20):
        chosen = draws[place]
        wanted = [references[row] for row in chosen]
        said = [given[row] for row in chosen]
        present = sorted(set(wanted))
        assert drawn["macro_f1"][place] == pytest.approx(f1_score(wanted, said, labels=present, average="macro"))
        assert drawn["accuracy"][place] == pytest.approx(np.mean(np.array(wanted) == said))
        assert drawn["perplexity"][place] == pytest.approx(np.exp(losses[chosen].mean() / 2))
        assert 100 * drawn["bleu"][place] == pytest.approx(sacrebleu.corpus_bleu(said, [wanted]).score)
    assert each.labels is not None
    assert comparison.intervals(0)["macro_f1"][0] < each.value(METRICS["macro_f1"]) < 1


def test_what_one_model_lacks_is_not_compared() -> None:
    measures, comparison = measured(["Yes."] * 10, ["Yes."] * 10, ["No."] * 10, metric="token_accuracy")
    found = comparison.against_first(1)
    assert "token_accuracy" not in found["differences"]
    assert found["sentence"] == "tuned and base cannot be compared: one of them has no token accuracy."
    assert found["verdict"] == "undecided"
    assert measures[0].value(METRICS["token_accuracy"]) is None


def test_one_row_is_not_enough() -> None:
    _, comparison = measured(["Yes."], ["Yes."], ["No."])
    assert comparison.intervals(0) == {}
    found = comparison.against_first(1)
    assert found["sentence"] == "tuned and base cannot be compared: one row is not enough."
    assert (found["losses"], found["verdict"]) == (1, "undecided")


def test_a_missing_answer_is_wrong_and_has_no_length() -> None:
    (each,), _ = measured(["Yes."] * 4, ["Yes.", None, "Yes.", "No."])
    assert each.value(METRICS["exact_match"]) == 0.5
    assert each.value(METRICS["answer_characters"]) == pytest.approx(11 / 3)
    assert each.row_values(METRICS["exact_match"]).tolist() == [1, 0, 1, 0]
    assert np.isnan(each.row_values(METRICS["answer_characters"])[1])


def test_losses_that_are_no_numbers() -> None:
    (each,), comparison = measured(["Yes."] * 3, ["Yes."] * 3, losses=[[1.0, float("nan"), 1.0]])
    assert each.value(METRICS["perplexity"]) is None
    assert each.why_missing(METRICS["perplexity"], {"can": ["score"]}) == "the model's probabilities are not numbers"
    assert "perplexity" not in comparison.intervals(0)
