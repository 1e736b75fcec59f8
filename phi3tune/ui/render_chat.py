"""The playground's conversations as HTML."""

from __future__ import annotations

from phi3tune.ui.dialogue import Dialogue, Pane, Turn, first_difference
from phi3tune.ui.render import answer_text, counted, empty, esc, latency, notice, size

FINISH = {"stop": "finished", "length": "cut at the longest answer", "cancelled": "stopped", "error": "failed"}
COPY = '<button type="button" class="pt-copy" title="Copy this answer" aria-label="Copy this answer">Copy</button>'


def pane(of: Pane, hint: str) -> str:
    """A conversation. The newest turn is at the bottom and stays in view while it grows."""
    if not of.turns:
        return f'<div class="pt-chat">{empty(hint)}</div>'
    last = of.turns[-1]
    turns = "".join(_turn(turn, pending=of.busy and turn is last, statistics=turn is not last) for turn in of.turns)
    return f'<div class="pt-chat" tabindex="0"><div class="pt-turns" role="log" aria-live="polite">{turns}</div></div>'


def _turn(turn: Turn, *, pending: bool, statistics: bool) -> str:
    if turn.role == "user":
        return (
            f'<article class="pt-turn pt-user user"><h4>You</h4><div class="pt-text">{esc(turn.text)}</div></article>'
        )
    head = f"<h4>{esc(turn.model or 'Model')}{COPY if turn.text and not pending else ''}</h4>"
    body = answer_text(turn.text) if turn.text else ""
    if pending:
        body += '<span class="pt-typing" aria-label="is answering"><i></i><i></i><i></i></span>'
    elif turn.error:
        body += notice("bad", turn.error)
    elif not turn.text:
        body += '<p class="pt-sub">No text.</p>'
    below = f'<p class="pt-sub pt-stats">{esc(stats(turn))}</p>' if statistics and stats(turn) else ""
    return f'<article class="pt-turn pt-model bot">{head}{body}{below}</article>'


def stats(turn: Turn) -> str:
    """`first token 34 ms · 61.0 tok/s · 34 tokens · finished`; nothing before an answer has ended."""
    if not turn.finish:
        return ""
    parts = []
    if turn.usage is not None and turn.usage.completion_tokens:
        usage = turn.usage
        parts.append(f"first token {latency(usage.first_token_seconds)}")
        speed = usage.tokens_per_second
        parts.append(f"{speed:,.0f} tok/s" if speed >= 100 else f"{speed:.1f} tok/s")
        parts.append(counted(usage.completion_tokens, "token"))
    return " · ".join([*parts, FINISH.get(turn.finish, turn.finish)])


def stats_line(of: Pane) -> str:
    """The line under a pane: figures of its last answer, and what gave it."""
    last = of.turns[-1] if of.turns else None
    text = (of.waiting_for or "answering") if of.busy else stats(last) if last is not None else ""
    info = last.engine if last is not None else None
    engine = f"{info.kind} · {info.precision} · {size(info.size_bytes)} · {info.device}" if info is not None else ""
    return f'<div class="pt-statsline"><b>{esc(text)}</b><span>{esc(engine)}</span></div>'


def difference(dialogue: Dialogue) -> str:
    """Whether the two last answers are the same, and where they part; nothing while one is still coming."""
    last = [of.turns[-1] for of in dialogue.panes.values() if of.turns]
    if dialogue.busy or len(last) < 2 or any(turn.finish not in ("stop", "length") for turn in last):
        return ""
    left, right = (turn.text for turn in last)
    if left == right:
        return '<p class="pt-difference">Both gave the same answer.</p>'
    place = first_difference(left, right)
    where = f"from word {place:,} on" if place else "only in their spacing"
    return f'<p class="pt-difference">The answers differ {where}.</p>'
