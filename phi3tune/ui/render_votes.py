"""What the votes add up to, as HTML."""

from __future__ import annotations

from phi3tune.ui.render import Column, counted, empty, esc, share, table
from phi3tune.votes import Share, Tally


def sentence(found: Tally, first: str, second: str) -> str:
    """How one model stands against another, in one line; empty without votes on them."""
    pair = found.pair(first, second)
    if pair is None:
        return ""
    if pair.share.value is None:
        told = "no vote has decided between them yet"
    else:
        low, high = pair.share.interval
        sure = "" if low > 0.5 or high < 0.5 else "; more votes are needed to tell them apart"
        told = f"{first} won {pair.wins:,} of {pair.share.decided:,} decided votes, {_share(pair.share)}{sure}"
    ties = f" ({counted(pair.ties, 'tie')}, both bad {pair.both_bad:,} times)" if pair.ties or pair.both_bad else ""
    return f'<p class="pt-difference">{esc(f"{first} against {second}: {told}{ties}.")}</p>'


def _share(of: Share) -> str:
    low, high = of.interval
    return f"{share(of.value)} (95 % interval {share(low)} to {share(high)})"


def tally(found: Tally) -> str:
    """Both tables: each model over all its votes, and each pair."""
    if not found.votes:
        return empty("Choose Blind, ask two models, and say which answer is better: the votes add up here.")
    models = [
        [record.model, record.votes, record.share.wins, _share(record.share) if record.share.decided else "–"]
        for record in found.models
    ]
    pairs = [
        [f"{pair.first} against {pair.second}", pair.wins, pair.losses, pair.ties, pair.both_bad,
         _share(pair.share) if pair.share.decided else "–"]
        for pair in found.pairs
    ]  # fmt: skip
    by_model = [
        Column("Model", wide=True),
        Column("Votes", numeric=True),
        Column("Won", numeric=True),
        Column("Win rate"),
    ]
    by_pair = [
        Column("Pair", wide=True),
        *(Column(name, numeric=True) for name in ("First", "Second", "Ties", "Both bad")),
    ]
    caption = f"{counted(found.votes, 'vote')}; win rates leave out ties and rounds in which all answers were bad"
    return table(by_model, models, caption=caption) + table([*by_pair, Column("First preferred")], pairs)
