"""One scorer for every model: answers and likelihoods on held-out rows."""

from phi3tune.evaluation.held_out import choose
from phi3tune.evaluation.run import evaluate, load_report, rows

__all__ = ["choose", "evaluate", "load_report", "rows"]
