"""Whether what people ask has moved away from what a model was tuned on."""

from __future__ import annotations

import math
import time
from typing import Any

from phi3tune.errors import UserError
from phi3tune.monitor import profiles
from phi3tune.monitor.profiles import Profile
from phi3tune.monitor.records import reading
from phi3tune.paths import Workspace

WEEK = 7 * 86_400.0
FEW = 30  # requests below which nothing is said
_MOST = 10_000  # requests looked at, the newest ones
# From where a difference is called large; each has to be beyond chance, too.
LENGTH = 0.2  # largest difference between the two cumulative distributions
NEW_WORDS = 0.10
REFUSALS = 0.05
_LEVEL = 0.99  # three differences are looked at again and again: 95 % would too often take chance for drift


def drift(
    workspace: Workspace, model: str, *, since: float | None = None, until: float | None = None
) -> dict[str, Any]:
    """How the requests of a model differ from its run's training rows; by default those of the last week.

    `sentence` says it plainly. `large` is True when any of three differences is both large and beyond chance, None
    where there is nothing to compare or too little:

    prompt_length   tokens before the answer: the two-sample Kolmogorov-Smirnov statistic, at least 0.2 with p < 0.01
    unseen_words    mean share of words of the user's last turn that training prompts do not have, against the share
                    that a training row has of its own; at least 0.10 more, with the whole 99 % interval above zero
                    (Welch's)
    refusals        share of refusals among answers; at least 0.05 more or less, with the whole 99 % interval on that
                    side (Newcombe 1998, method 10, https://pubmed.ncbi.nlm.nih.gov/9595617/)

    Each is None where it cannot be had. Turns of one chat count as requests of their own, though they are alike.
    """
    until = time.time() if until is None else until
    since = until - WEEK if since is None else since
    with reading(workspace) as log:
        rows = log.execute(
            "SELECT prompt_tokens, words, unseen_words, refused FROM requests WHERE model = ? AND status < 400 "
            "AND kind != 'completion' AND time BETWEEN ? AND ? ORDER BY time DESC LIMIT ?",
            (model, since, until, _MOST),
        ).fetchall()
    told: dict[str, Any] = {"model": model, "since": since, "until": until, "requests": len(rows)}
    nothing = {"large": None, "prompt_length": None, "unseen_words": None, "refusals": None}
    try:
        profile = profiles.of_model(model, workspace)
    except UserError as error:
        return {**told, **nothing, "sentence": f"Drift cannot be told: {error}."}
    if len(rows) < FEW:
        few = f"{len(rows)} requests are too few to compare with the training data of {model}; {FEW} are needed."
        return {**told, **nothing, "sentence": few}
    found = {
        "prompt_length": _length(profile, [row["prompt_tokens"] for row in rows if row["prompt_tokens"]]),
        "unseen_words": _new_words(
            profile,
            [row["unseen_words"] / row["words"] for row in rows if row["words"] and row["unseen_words"] is not None],
        ),
        "refusals": _refusals(profile, [bool(row["refused"]) for row in rows if row["refused"] is not None]),
    }
    large = any(each["large"] for each in found.values() if each is not None)
    return {**told, "large": large, **found, "sentence": _sentence(model, len(rows), found)}


def _length(profile: Profile, lengths: list[int]) -> dict[str, Any] | None:
    if len(lengths) < FEW:
        return None
    import numpy as np
    from scipy.stats import ks_2samp

    test = ks_2samp(lengths, profile.prompt_tokens, method="asymp")
    return {
        "training_median": float(np.median(profile.prompt_tokens)),
        "requests_median": float(np.median(lengths)),
        "statistic": float(test.statistic),
        "p_value": float(test.pvalue),
        "large": bool(test.statistic >= LENGTH and test.pvalue < 1 - _LEVEL),
    }


def _new_words(profile: Profile, shares: list[float]) -> dict[str, Any] | None:
    if len(shares) < FEW:
        return None
    import numpy as np
    from scipy.stats import t

    mean, variance = profile.unseen
    errors = (float(np.var(shares, ddof=1)) / len(shares), variance / profile.turns)
    difference = float(np.mean(shares)) - mean
    # Welch and Satterthwaite's degrees of freedom; without any variance the difference is what it is.
    below = errors[0] ** 2 / (len(shares) - 1) + errors[1] ** 2 / max(1, profile.turns - 1)
    width = float(t.ppf((1 + _LEVEL) / 2, sum(errors) ** 2 / below)) * math.sqrt(sum(errors)) if below else 0.0
    return {
        "training": mean,
        "requests": mean + difference,
        "difference": difference,
        "low": difference - width,
        "high": difference + width,
        "large": difference >= NEW_WORDS and difference - width > 0,
    }


def _refusals(profile: Profile, refused: list[bool]) -> dict[str, Any] | None:
    if len(refused) < FEW or profile.answers == 0:
        return None
    difference, low, high = newcombe(sum(refused), len(refused), profile.refused, profile.answers, level=_LEVEL)
    return {
        "training": profile.refused / profile.answers,
        "requests": sum(refused) / len(refused),
        "difference": difference,
        "low": low,
        "high": high,
        "large": abs(difference) >= REFUSALS and (low > 0 or high < 0),
    }


def newcombe(count: int, total: int, other_count: int, other_total: int, *, level: float) -> tuple[float, float, float]:
    """The difference of two independent shares, with its interval by Newcombe's method 10."""
    from scipy.stats import binomtest

    share, other = count / total, other_count / other_total
    own = binomtest(count, total).proportion_ci(level, method="wilson")
    others = binomtest(other_count, other_total).proportion_ci(level, method="wilson")
    difference = share - other
    low = difference - math.hypot(share - own.low, others.high - other)
    high = difference + math.hypot(own.high - share, other - others.low)
    return difference, low, high


def _sentence(model: str, requests: int, found: dict[str, Any]) -> str:
    said = []
    length, new, refusals = found["prompt_length"], found["unseen_words"], found["refusals"]
    if length is not None and length["large"]:
        asked, trained = length["requests_median"], length["training_median"]
        than = "longer" if asked > trained else "shorter" if asked < trained else "of other lengths"
        said.append(f"prompts are {than} (median {asked:,.0f} tokens, in training {trained:,.0f})")
    if new is not None and new["large"]:
        said.append(
            f"{new['requests']:.0%} of the words of a question do not occur in training, where {new['training']:.0%} "
            "would be new"
        )
    if refusals is not None and refusals["large"]:
        said.append(f"{refusals['requests']:.0%} of answers are refusals, in training {refusals['training']:.0%}")
    if not said:
        return f"The last {requests:,} requests to {model} are like its training data."
    return (
        f"What is asked of {model} has moved away from its training data: {'; '.join(said)}. Look at such requests, "
        "add rows like them to the dataset, and train again."
    )
