from __future__ import annotations

import pytest

from phi3tune import presets
from phi3tune.config import SamplingConfig
from phi3tune.errors import UserError
from phi3tune.paths import Workspace


def test_a_preset_comes_back_as_it_was(workspace: Workspace) -> None:
    warm = SamplingConfig(system="Be brief.", temperature=0.7, stop=["\n"])
    presets.save(" Warm ", warm, workspace)
    presets.save("Plain", SamplingConfig(), workspace)
    assert presets.names(workspace) == ["Plain", "Warm"]
    assert presets.load("Warm", workspace) == warm
    presets.save("Warm", SamplingConfig(seed=7), workspace)
    assert presets.load("Warm", workspace).seed == 7
    presets.delete("Warm", workspace)
    assert presets.names(workspace) == ["Plain"]


@pytest.mark.parametrize("name", ["", "  ", "a" * 65, "line\nbreak"])
def test_a_name_that_is_none_is_refused(name: str, workspace: Workspace) -> None:
    with pytest.raises(UserError, match="name"):
        presets.save(name, SamplingConfig(), workspace)


def test_an_unknown_preset_names_those_there_are(workspace: Workspace) -> None:
    presets.save("Warm", SamplingConfig(), workspace)
    for act in (presets.load, presets.delete):
        with pytest.raises(UserError, match="presets: Warm"):
            act("Cold", workspace)


@pytest.mark.parametrize("text", ["", "[]", '{"schema": 1, "presets": [1]}', '{"schema": 2, "presets": {}}', "{"])
def test_a_file_that_is_none_is_told_and_not_overwritten(text: str, workspace: Workspace) -> None:
    workspace.root.mkdir(parents=True)
    path = workspace.root / presets.FILE
    path.write_text(text)
    with pytest.raises(UserError, match=r"presets\.json"):
        presets.save("Warm", SamplingConfig(), workspace)
    assert path.read_text() == text


def test_a_visitor_who_has_no_room_keeps_no_more(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHI3TUNE_HOSTED_MAX_STORAGE", "0.001")  # a kilobyte
    visitor = Workspace(workspace.root / "visitors" / "ada", workspace.root)
    presets.save("small", SamplingConfig(system="Be brief."), visitor)
    with pytest.raises(UserError, match="limit here"):
        presets.save("large", SamplingConfig(system="x" * 2_000), visitor)
    assert presets.names(visitor) == ["small"]
