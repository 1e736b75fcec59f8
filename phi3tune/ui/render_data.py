"""A dataset as HTML: what is in it, what is wrong with it, one row as tokens."""

from __future__ import annotations

from collections.abc import Sequence

from phi3tune.chat import Renderer
from phi3tune.data import Conversation, DataReport, Problem
from phi3tune.ui.render import Column, counted, esc, facts, notice, number, table

ROWS_SHOWN = 8
PROBLEMS_SHOWN = 50
