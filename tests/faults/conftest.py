"""What the faults are compared with: a run that nothing happened to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes import kill_workers
from tests.faults.victims import Ending, Trial

NewTrial = Callable[[], Trial]


@pytest.fixture(autouse=True)
def no_worker_stays() -> Iterator[None]:
    yield
    kill_workers()


@pytest.fixture(scope="session")
def new_trial(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> NewTrial:
    return lambda: Trial.make(tmp_path_factory.mktemp("trial"), tiny_model)


@pytest.fixture(scope="session")
def undisturbed(new_trial: NewTrial) -> Ending:
    trial = new_trial()
    folder = trial.start()
    trial.finish(folder)
    return Ending.of(folder)
