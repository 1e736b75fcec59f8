"""What the curves of a run warn of: each detector names a cause and an action, and speaks once in a run.

Detectors are pure functions of `Curves` and look at windows of bounded size or at running sums, so that a long run
costs no more per logged point than a short one. A loss that is no number ends the run instead: see `trainer`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean, median, pvariance

from phi3tune import system
from phi3tune.config import TrainConfig
from phi3tune.events import Metrics, Notice

WINDOW = 5  # points that a sudden change must last for
SETTLED = 20  # points that tell what is usual
FLAT_POINTS, FLAT_WINDOW = 30, 200
FLAT_SHARE = 0.03  # of the loss: less than this learned is nothing learned
LEARNED_LOSS = 0.1  # nats per token: below it there is little left to learn
OVERFIT_SHARE, OVERFIT_EVALUATIONS = 0.03, 2
SWAPPED_BYTES = 64 * 2**20


@dataclass
class Curves:
    """A run's values so far, by logged point and by evaluation.

    comparable   whether training and evaluation measure the same loss (not so with dft or label smoothing)
    evaluations  (step, eval_loss, mean training loss since the evaluation before)
    lowest       the lowest mean training loss of `SETTLED` points in a row
    """

    comparable: bool = True
    loss: list[float] = field(default_factory=list)
    grad_norm: list[float] = field(default_factory=list)
    speed: list[float] = field(default_factory=list)
    learning_rate: float = 0.0
    evaluations: list[tuple[int, float, float]] = field(default_factory=list)
    lowest: float = math.inf
    _since: int = 0

    def add(self, metrics: Metrics) -> None:
        values = metrics.values
        if "loss" in values:
            self.loss.append(values["loss"])
            self.grad_norm.append(values.get("grad_norm", 0.0))
            self.speed.append(values.get("tokens_per_second", 0.0))
            self.learning_rate = max(self.learning_rate, values.get("learning_rate", 0.0))
            if len(self.loss) >= SETTLED:
                self.lowest = min(self.lowest, fmean(self.loss[-SETTLED:]))
        if "eval_loss" in values and len(self.loss) > self._since:
            self.evaluations.append((metrics.step, values["eval_loss"], fmean(self.loss[self._since :])))
            self._since = len(self.loss)


def loss_flat(curves: Curves) -> Notice | None:
    """The mean of the last third of the points is, within two standard errors, less than 3 % from the first third's."""
    size = min(len(curves.loss) // 3, FLAT_WINDOW)
    if len(curves.loss) < FLAT_POINTS or len(curves.loss) % WINDOW:
        return None
    first, last = curves.loss[:size], curves.loss[-size:]
    before, now = fmean(first), fmean(last)
    error = math.sqrt((pvariance(first, before) + pvariance(last, now)) / size)
    if now < LEARNED_LOSS or abs(before - now) + 2 * error > FLAT_SHARE * before:
        return None
    return Notice(
        code="loss_flat",
        message=f"the loss stays at {now:.3f}: at a learning rate of {curves.learning_rate:g} the model learns nothing",
        action="stop, and start again with a --learning-rate ten times as high; or look whether the answers follow "
        "from the prompts at all",
    )


def loss_rising(curves: Curves) -> Notice | None:
    """The mean of the last points lies 30 %, 0.3 nats and six standard errors above the lowest such mean."""
    if len(curves.loss) < 2 * SETTLED:
        return None
    last = curves.loss[-SETTLED:]
    now = fmean(last)
    error = math.sqrt(pvariance(last, now) / SETTLED)
    if now - curves.lowest < max(0.3, 0.3 * curves.lowest, 6 * error):
        return None
    return Notice(
        code="loss_rising",
        message=f"the loss rises: {curves.lowest:.3f} before, {now:.3f} now; a learning rate of "
        f"{curves.learning_rate:g} is too high",
        action="stop, and start again with a --learning-rate of a third or less, or with a longer --warmup-share",
    )


def gradient_exploding(curves: Curves) -> Notice | None:
    """The median norm of the last points is more than 1, and ten times what it was before them."""
    norms = curves.grad_norm
    if len(norms) < SETTLED + WINDOW:
        return None
    now, before = median(norms[-WINDOW:]), median(norms[-WINDOW - SETTLED : -WINDOW])
    if now <= 1.0 or now <= 10 * before:
        return None
    return Notice(
        code="gradient_exploding",
        message=f"the gradient norm grew from {before:.2g} to {now:.2g}: training is about to diverge",
        action="stop, and start again with a lower --learning-rate, or with a --max-grad-norm of 1 or less",
    )


def overfitting(curves: Curves) -> Notice | None:
    """The eval loss rose twice in a row, to 3 % above its lowest, while the training loss went on falling."""
    if len(curves.evaluations) <= OVERFIT_EVALUATIONS:
        return None
    best = min(range(len(curves.evaluations)), key=lambda index: curves.evaluations[index][1])
    recent = curves.evaluations[-1 - OVERFIT_EVALUATIONS :]
    rising = all(later[1] > earlier[1] for earlier, later in pairwise(recent))
    step, lowest, trained_then = curves.evaluations[best]
    _, now, trained_now = curves.evaluations[-1]
    if not rising or now < (1 + OVERFIT_SHARE) * lowest or trained_now >= trained_then:
        return None
    return Notice(
        code="overfitting",
        message=f"the eval loss rises, {lowest:.3f} at step {step} and {now:.3f} now, while the training loss falls: "
        "the model learns the rows by heart",
        action="take the best evaluation as the result (--keep-best), train for fewer --epochs, or add rows",
    )


def eval_worse_than_start(curves: Curves) -> Notice | None:
    """The eval loss lies 10 %, and 0.1 nats, above the loss that training began with."""
    if not curves.evaluations:
        return None
    now = curves.evaluations[-1][1]
    start = fmean(curves.loss[:3]) if curves.comparable else curves.evaluations[0][1]
    if now - start < max(0.1, 0.1 * start):
        return None
    return Notice(
        code="eval_worse_than_start",
        message=f"the eval loss is {now:.3f}, more than the {start:.3f} that training began with: "
        "the model got worse on rows that it does not train on",
        action="stop, and start again with a lower --learning-rate or fewer --epochs; look whether the validation rows "
        "are of the same kind as the others",
    )


def slow(curves: Curves, swapped_bytes: Callable[[], int] = system.process_swap) -> Notice | None:
    """The median speed of the last points is less than a third of that of the first ones."""
    speeds = curves.speed
    if len(speeds) < 2 * SETTLED:
        return None
    now, usual = median(speeds[-SETTLED:]), median(speeds[:SETTLED])
    if now >= usual / 3:
        return None
    swapped = swapped_bytes()
    if swapped > SWAPPED_BYTES:
        cause = f"memory is short and {swapped / 1e6:,.0f} MB of the run are swapped to disk"
        action = "close other programs, or stop and start again with a smaller --micro-batch or --max-length"
    else:
        cause = "another program takes the processor, or it was slowed down to cool"
        action = "close other programs; the run loses nothing but time"
    return Notice(
        code="slow",
        message=f"training has become slow, {usual:,.0f} tokens per second before and {now:,.0f} now: {cause}",
        action=action,
    )


DETECTORS: tuple[Callable[[Curves], Notice | None], ...] = (
    loss_flat,
    loss_rising,
    gradient_exploding,
    overfitting,
    eval_worse_than_start,
    slow,
)


class Alarms:
    """Runs every detector on a run's metrics as they come, until it has spoken."""

    def __init__(self, config: TrainConfig, earlier: Iterable[Metrics] = (), told: Iterable[str] = ()) -> None:
        self._curves = Curves(comparable=config.loss == "cross_entropy" and config.label_smoothing == 0)
        for metrics in earlier:
            self._curves.add(metrics)
        silent = set(told)
        self._waiting = [detector for detector in DETECTORS if detector.__name__ not in silent]

    def see(self, metrics: Metrics) -> list[Notice]:
        """What there is to warn of after these metrics, each for the first time."""
        self._curves.add(metrics)
        notices = []
        for detector in list(self._waiting):
            notice = detector(self._curves)
            if notice is not None:
                self._waiting.remove(detector)
                notices.append(notice)
        return notices


def rows_cut(cut: int, total: int, max_length: int, names: str) -> Notice:
    """What to tell of `cut` rows among `total`, named by `names`, that are longer than `max_length` tokens."""
    most = 2 * cut > total
    return Notice(
        code="most_rows_truncated" if most else "rows_truncated",
        message=f"{cut} of {total} rows are longer than {max_length} tokens and are cut ({names}); "
        + ("most answers are trained without their end" if most else "their cut answers teach no end"),
        action="raise --max-length",
    )
