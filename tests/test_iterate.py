"""The next run out of an earlier one."""

from __future__ import annotations

from pathlib import Path

import pytest

from phi3tune import data, iterate
from phi3tune.about import edit_about
from phi3tune.config import TrainConfig
from phi3tune.errors import ConfigError, UserError
from phi3tune.paths import Workspace, write_json
from tests.ended_runs import ended_run
from tests.fake_runs import chats


def test_a_clone_has_the_settings_with_changes_and_no_name(workspace: Workspace):
    folder = ended_run(workspace, "lamp-1", name="lamp-1", lora_rank=4, epochs=1.0, note="the first")
    edit_about(folder, project="lamps", tags=["small"])
    config = iterate.cloned("lamp-1", workspace, lora_rank=8)
    assert config == TrainConfig(lora_rank=8, epochs=1.0, project="lamps", tags=["small"])


def test_a_preset_begins_from_its_own_settings(workspace: Workspace):
    ended_run(workspace, "dora-1", method="dora", lora_rank=4, lora_alpha=8.0)
    kept = iterate.cloned("dora-1", workspace)
    assert (kept.use_dora, kept.lora_alpha) == (True, 8.0)
    other = iterate.cloned("dora-1", workspace, method="rslora")
    assert (other.use_dora, other.use_rslora, other.lora_alpha) == (False, True, 8.0)
    thorough = iterate.cloned("dora-1", workspace, quality="thorough")
    assert (thorough.lora_rank, thorough.keep_best) == (64, True)


def test_every_wrong_change_is_named(workspace: Workspace):
    ended_run(workspace, "lamp-1")
    with pytest.raises(ConfigError) as caught:
        iterate.cloned("lamp-1", workspace, epochs=-1, lora_rank=0)
    assert len(caught.value.problems) == 2
    with pytest.raises(UserError, match="does not exist"):
        iterate.cloned("lamp-9", workspace)


def test_continuing_starts_from_the_run_and_leaves_the_adapter_its_shape(workspace: Workspace):
    ended_run(workspace, "lamp-1", name="lamp-1", revision="main", init="pissa", lora_rank=4, epochs=2.0, seed=9)
    config = iterate.continued("lamp-1", workspace, epochs=1.0)
    # PiSSA's adapter was saved with another rank: what it is, training reads from it.
    assert config == TrainConfig(model="lamp-1", epochs=1.0, seed=9)
    explicit = iterate.continued("lamp-1", workspace, lora_rank=8)
    assert explicit.lora_rank == 8  # training refuses it when the adapter has another


def test_what_has_no_result_cannot_be_continued(workspace: Workspace):
    ended_run(workspace, "lamp-1", state="stopped", adapter=False)
    with pytest.raises(UserError, match="is stopped and has no result to go on from; resume it"):
        iterate.continued("lamp-1", workspace)


def trained(workspace: Workspace, name: str, dataset: Path, **settings: object) -> TrainConfig:
    """A run that ended, with the record of its rows."""
    folder = ended_run(workspace, name, dataset=str(dataset), **settings)
    config = TrainConfig(dataset=str(dataset), **settings)
    write_json(folder / "dataset.json", data.load(config, workspace).record())
    return config


def test_rows_that_were_trained_on_and_are_now_held_out_are_counted(workspace: Workspace, tmp_path: Path):
    first, more = chats(tmp_path / "first.jsonl", 40), chats(tmp_path / "more.jsonl", 80)
    first_data = trained(workspace, "lamp-1", first)
    same = iterate.continued("lamp-1", workspace)
    assert iterate.rows_seen_before(same, workspace) == 0
    grown = iterate.continued("lamp-1", workspace, dataset=str(more), split_seed=3)
    before = {row.reference for row in data.load(first_data, workspace).parts["train"]}
    now = data.load(grown, workspace).parts
    expected = sum(row.reference in before for part in ("validation", "test") for row in now[part])
    assert expected > 0  # or the test shows nothing
    assert iterate.rows_seen_before(grown, workspace) == expected
    other = iterate.continued("lamp-1", workspace, dataset=str(chats(tmp_path / "new.jsonl", 40, first=100)))
    assert iterate.rows_seen_before(other, workspace) == 0


def test_runs_before_the_last_one_count_and_gone_datasets_do_not_matter(workspace: Workspace, tmp_path: Path):
    first, more = chats(tmp_path / "first.jsonl", 40), chats(tmp_path / "more.jsonl", 80)
    trained(workspace, "lamp-1", first)
    trained(workspace, "lamp-2", more, model="lamp-1", split_seed=3)
    back = iterate.continued("lamp-2", workspace, dataset=str(first), split_seed=7)  # as lamp-1 divided them
    assert iterate.rows_seen_before(back, workspace) > 0
    more.unlink()
    assert iterate.rows_seen_before(back, workspace) == 0
    fresh = TrainConfig(dataset=str(first))
    assert iterate.rows_seen_before(fresh, workspace) == 0
