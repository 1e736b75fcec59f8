"""Checks on what models are asked and what they answer: each passes, flags, masks or blocks a text."""

from phi3tune.guardrails.guards import Guards
from phi3tune.guardrails.settings import load
from phi3tune.guardrails.streaming import OutputFilter, Piece
from phi3tune.guardrails.verdict import Action, Hit, Outcome, Verdict

__all__ = ["Action", "Guards", "Hit", "Outcome", "OutputFilter", "Piece", "Verdict", "load"]
