"""ZeroGPU, on which a Space borrows a GPU for the seconds that an answer takes."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from phi3tune.errors import UserError

_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")


def is_zero_gpu() -> bool:
    """Whether this process is the app of a Space on ZeroGPU hardware."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def on_gpu(
    seconds: Callable[_Given, int],
) -> Callable[[Callable[_Given, _Result]], Callable[_Given, _Result]]:
    """Have a function run where there is a GPU, for at most as many seconds as `seconds` says of its arguments.

    On ZeroGPU that is a forked process: arguments and results are pickled, changes of variables are lost there, and of
    an exception only the class's name arrives. To be applied before the page is served. Elsewhere it changes nothing.
    """

    def decorate(work: Callable[_Given, _Result]) -> Callable[_Given, _Result]:
        if not is_zero_gpu():
            return work
        import spaces

        borrowing: Any = spaces.GPU(duration=seconds)(work)
        decorated: Callable[_Given, _Result] = borrowing
        return decorated

    return decorate


def refuse_training() -> None:
    """Raise `UserError` on ZeroGPU, where a GPU is lent for seconds."""
    if is_zero_gpu():
        raise UserError(
            "training takes minutes and ZeroGPU lends a GPU for seconds; duplicate this Space onto CPU or GPU "
            "hardware, or run phi3tune on your own machine"
        )
