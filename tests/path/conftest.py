"""One real run on the bundled data, shared by every test that needs a tuned model."""

from __future__ import annotations

import pytest

from phi3tune.paths import Workspace
from tests.path.command import TRAIN, Command, Tuned, call


@pytest.fixture
def phi3tune(workspace: Workspace) -> Command:
    """`phi3tune(...)` in this test's own workspace."""
    return lambda *argv: call(workspace.root, *argv)


@pytest.fixture(scope="session")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    """phi3-nano tuned on lantern-support with every default."""
    home = tmp_path_factory.mktemp("shared")
    answer = call(home, *TRAIN, "--json")
    assert answer.code == 0, answer.errors
    return Tuned(home, answer.json["run"], answer.json)
