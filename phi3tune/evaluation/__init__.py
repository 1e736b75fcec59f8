"""One scorer for every model: answers and likelihoods on held-out rows."""

from phi3tune.evaluation.run import evaluate, load_report, rows

__all__ = ["evaluate", "load_report", "rows"]
