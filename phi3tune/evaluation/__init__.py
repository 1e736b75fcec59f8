"""One scorer for every model: answers and likelihoods on held-out rows, and how sure the difference is.

What is asked for is imported then: who reads a report does not wait for scipy and scikit-learn.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from phi3tune.evaluation.certainty import Interval, paired_interval
    from phi3tune.evaluation.extras import check, check_models
    from phi3tune.evaluation.held_out import choose
    from phi3tune.evaluation.labels import classes
    from phi3tune.evaluation.progress import token_losses
    from phi3tune.evaluation.run import evaluate
    from phi3tune.evaluation.saved import load_report, rows

__all__ = [
    "Interval",
    "check",
    "check_models",
    "choose",
    "classes",
    "evaluate",
    "load_report",
    "paired_interval",
    "rows",
    "token_losses",
]
_MODULES = {
    "Interval": "certainty",
    "check": "extras",
    "check_models": "extras",
    "choose": "held_out",
    "classes": "labels",
    "evaluate": "run",
    "load_report": "saved",
    "paired_interval": "certainty",
    "rows": "saved",
    "token_losses": "progress",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
