"""What the votes add up to, as HTML."""

from __future__ import annotations

from phi3tune.ui.render import NONE, Column, counted, empty, esc, share, table
from phi3tune.ui.words import t
from phi3tune.votes import Share, Tally


def sentence(found: Tally, first: str, second: str) -> str:
    """How one model stands against another, in one line; empty without votes on them."""
    pair = found.pair(first, second)
    if pair is None:
        return ""
    names = {"first": first, "second": second}
    if pair.share.value is None:
        lines = [t("No vote has decided between {first} and {second} yet.", **names)]
    else:
        low, high = pair.share.interval
        won = {"won": f"{pair.wins:,}", "n": f"{pair.share.decided:,}", "share": _share(pair.share)}
        lines = [t("{first} won {won} of {n} decided votes against {second}: {share}.", **names, **won)]
        if low <= 0.5 <= high:
            lines.append(t("More votes are needed to tell them apart."))
    if pair.ties or pair.both_bad:
        lines.append(t("Ties: {ties}; both bad: {bad}.", ties=f"{pair.ties:,}", bad=f"{pair.both_bad:,}"))
    return f'<p class="pt-difference">{esc(" ".join(lines))}</p>'


def _share(of: Share) -> str:
    if not of.decided:
        return NONE
    low, high = of.interval
    return t("{share} (95 % interval {low} to {high})", share=share(of.value), low=share(low), high=share(high))


def tally(found: Tally) -> str:
    """Both tables: each model over all its votes, and each pair."""
    if not found.votes:
        say = t("Ask two different models the same question, and say which answer is better: the votes add up here.")
        return empty(say, picture="table")
    models = [[record.model, record.votes, record.share.wins, _share(record.share)] for record in found.models]
    pairs = [
        [t("{first} against {second}", first=pair.first, second=pair.second), pair.wins, pair.losses, pair.ties,
         pair.both_bad, _share(pair.share)]
        for pair in found.pairs
    ]  # fmt: skip
    by_model = [
        Column(t("Model"), wide=True),
        Column(t("Votes"), numeric=True),
        Column(t("Won"), numeric=True),
        Column(t("Win rate")),
    ]
    counts = (t("First"), t("Second"), t("Ties"), t("Both bad"))
    by_pair = [Column(t("Pair"), wide=True), *(Column(name, numeric=True) for name in counts)]
    lines = [t("{votes}; win rates leave out ties and rounds in which all answers were bad.",
               votes=counted(found.votes, "vote"))]  # fmt: skip
    if found.named:
        lines.append(t("With the models' names in sight, which may sway a vote: {n}.", n=f"{found.named:,}"))
    return table(by_model, models, caption=" ".join(lines)) + table([*by_pair, Column(t("First preferred"))], pairs)
