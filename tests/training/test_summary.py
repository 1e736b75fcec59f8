import pytest

from phi3tune.events import Metrics, Resumed
from phi3tune.training.summary import History, kept_metrics, last_value, train_loss
from tests.fakes import RecordingReporter


def logged(step: int, loss: float, weight: int) -> Metrics:
    return Metrics(step=step, weight=weight, values={"loss": loss})


def test_train_loss_is_weighted_by_tokens():
    assert train_loss([logged(1, 4.0, 10), logged(2, 1.0, 30)]) == pytest.approx(1.75)


def test_train_loss_takes_the_latest_attempt_at_each_step():
    events = [logged(1, 3.0, 1), logged(2, 9.0, 1), logged(3, 9.0, 1), Resumed(step=1), logged(2, 1.0, 1)]
    assert train_loss(events) == 2.0
    assert [metrics.step for metrics in kept_metrics(events)] == [1, 2]


def test_a_restart_from_the_beginning_forgets_everything():
    assert train_loss([logged(1, 9.0, 1), Resumed(step=0), logged(1, 2.0, 1)]) == 2.0


def test_nothing_logged_is_no_loss():
    assert train_loss([Metrics(step=1, values={"eval_loss": 2.0})]) is None


def test_last_value_is_of_the_latest_attempt():
    events = [Metrics(step=2, values={"eval_loss": 1.0}), Metrics(step=4, values={"eval_loss": 0.5}), Resumed(step=3)]
    assert last_value(events, "eval_loss") == 1.0
    assert last_value(events, "eval_bleu") is None


def test_a_value_can_be_that_of_a_step():
    events = [Metrics(step=step, values={"eval_loss": 1.0 / step}) for step in (2, 4)]
    assert last_value(events, "eval_loss", at_step=2) == 0.5
    assert last_value(events, "eval_loss", at_step=3) is None


def test_history_passes_on_and_keeps_what_was_before():
    earlier, reporter = logged(1, 1.0, 1), RecordingReporter()
    history = History(reporter, [earlier])
    history.emit(logged(2, 0.5, 1))
    assert [event.step for event in history.events] == [1, 2]
    assert [event.step for event in reporter.events] == [2]
