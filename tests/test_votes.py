from __future__ import annotations

import pytest

from phi3tune import votes
from phi3tune.errors import UserError
from phi3tune.paths import Workspace
from phi3tune.votes import Share


@pytest.mark.parametrize(("wins", "decided"), [(0, 1), (1, 1), (3, 4), (14, 16), (50, 100), (0, 30)])
def test_the_interval_is_wilsons(wins: int, decided: int) -> None:
    from scipy.stats import binomtest

    wanted = binomtest(wins, decided).proportion_ci(0.95, method="wilson")
    assert Share(wins, decided).interval == pytest.approx((wanted.low, wanted.high), abs=1e-9)


def test_no_vote_says_nothing(workspace: Workspace) -> None:
    found = votes.tally(workspace)
    assert (found.votes, found.pairs, found.models) == (0, (), ())
    assert Share(0, 0).value is None and Share(0, 0).interval == (0.0, 1.0)
    assert not workspace.database.exists(), "looking makes no file"


def test_votes_add_up_by_pair_and_by_model(workspace: Workspace) -> None:
    for choice in ("lamp", "lamp", "base", votes.TIE, votes.BAD):
        votes.add(["base", "lamp"], choice, workspace)
    votes.add(["lamp", "base"], "lamp", workspace)  # sides do not matter
    found = votes.tally(workspace)
    pair = found.pair("lamp", "base")
    assert pair is not None
    assert (pair.wins, pair.losses, pair.ties, pair.both_bad, pair.share.value) == (3, 1, 1, 1, 0.75)
    assert found.pair("base", "lamp") == found.pairs[0]
    best, other = found.models
    assert (best.model, best.votes, best.share.wins, best.share.decided) == ("lamp", 6, 3, 4)
    assert other.share.value == 0.25


def test_the_best_of_three_beats_both_others_and_says_nothing_of_them(workspace: Workspace) -> None:
    votes.add(["a", "b", "c"], "a", workspace)
    found = votes.tally(workspace)
    assert {(pair.first, pair.second): pair.wins for pair in found.pairs} == {("a", "b"): 1, ("a", "c"): 1}
    assert [(record.model, record.share.wins) for record in found.models] == [("a", 1), ("b", 0), ("c", 0)]


def test_votes_with_names_in_sight_are_counted_apart(workspace: Workspace) -> None:
    votes.add(["base", "lamp"], "lamp", workspace, named=True)
    votes.add(["base", "lamp"], "lamp", workspace)
    assert (votes.tally(workspace).votes, votes.tally(workspace).named) == (2, 1)


def test_a_database_of_before_votes_with_names_is_read(workspace: Workspace) -> None:
    import sqlite3

    workspace.database.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(workspace.database) as old:
        old.execute("CREATE TABLE votes (id INTEGER PRIMARY KEY, time REAL, models TEXT, choice TEXT)")
        old.execute("INSERT INTO votes (time, models, choice) VALUES (1.0, '[\"base\", \"lamp\"]', 'lamp')")
    votes.add(["base", "lamp"], "lamp", workspace, named=True)
    found = votes.tally(workspace)
    assert (found.votes, found.named, found.models[0].share.wins) == (2, 1, 2)


@pytest.mark.parametrize(
    ("models", "choice"), [(["a"], "a"), (["a", "a"], "a"), ([], votes.TIE), (["a", "b"], "c"), (["a", "b"], "")]
)
def test_what_is_no_vote_is_refused(models: list[str], choice: str, workspace: Workspace) -> None:
    with pytest.raises(UserError):
        votes.add(models, choice, workspace)
    assert votes.tally(workspace).votes == 0
