"""The playground's conversations as HTML. A button names what it does in `data-act`, and where in `data-place`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from phi3tune.ui.dialogue import LETTERS, Dialogue, Side
from phi3tune.ui.pane import Difference, Turn, first_difference
from phi3tune.ui.render import answer_text, counted, empty, esc, latency, notice, size

if TYPE_CHECKING:
    from phi3tune.guardrails import Hit

FINISH = {"stop": "finished", "length": "cut at the longest answer", "cancelled": "stopped", "error": "failed"}
COPY = '<button type="button" class="pt-copy" title="Copy this answer" aria-label="Copy this answer">Copy</button>'
PROMPT_TOKENS_SHOWN = 4_000


def chat(said: Dialogue, side: Side, hint: str, differs: Difference | None = None) -> str:
    """A conversation. The newest turn is at the bottom and stays in view while it grows.

    While names are hidden, answers are shown when all are there: their speed would tell who gives them.
    """
    of = said.panes[side]
    if not of.turns:
        return f'<div class="pt-chat">{empty(hint)}</div>'
    turns = []
    for place, turn in enumerate(of.turns):
        last = place == len(of.turns) - 1
        if turn.role == "user":
            turns.append(_question(turn, place, "" if said.busy else act("edit", "Edit", place)))
            continue
        open_answer = last and (of.busy or (said.hidden and said.busy))
        marked = differs.places[said.shown.index(side)] if differs is not None and last else None
        turns.append(_answer(said, side, turn, place, last=last, pending=open_answer, mark=marked))
    log = f'<div class="pt-turns" role="log" aria-live="polite">{"".join(turns)}</div>'
    return f'<div class="pt-chat" tabindex="0">{log}</div>'


def act(name: str, text: str, place: int | str = "", title: str = "") -> str:
    """A small button that tells the page what was pressed, and where."""
    told = f' title="{esc(title)}"' if title else ""
    what = f'data-act="{esc(name)}" data-place="{esc(place)}"{told}'
    return f'<button type="button" class="pt-act" {what}>{esc(text)}</button>'


def _question(turn: Turn, place: int, edit: str) -> str:
    return (
        f'<article class="pt-turn pt-user user"><h4>You{edit}</h4><div class="pt-text">{esc(turn.text)}</div></article>'
    )


def _answer(
    said: Dialogue, side: Side, turn: Turn, place: int, *, last: bool, pending: bool, mark: tuple[int, int] | None
) -> str:
    name = f"Model {LETTERS[side]}" if said.hidden else turn.model or "Model"
    head = f"<h4>{esc(name)}{COPY if turn.text and not pending else ''}</h4>"
    body = answer_text(turn.text, mark) if turn.text and not (pending and said.hidden) else ""
    if pending:
        body += '<span class="pt-typing" aria-label="is answering"><i></i><i></i><i></i></span>'
    elif turn.error:
        body += notice("bad", turn.error)
    elif not turn.text:
        body += '<p class="pt-sub">No text.</p>'
    body += hits(turn.hits)
    if said.hidden or said.busy:
        return f'<article class="pt-turn pt-model bot">{head}{body}</article>'
    below = f'<p class="pt-sub pt-stats">{esc(stats(turn))}</p>' if not last and stats(turn) else ""
    acts = [
        act("prompt", "Prompt", place, "Show exactly what the model was given, and its tokens"),
        act(
            "correct", "Correct", place, "Write the answer that it should have given, and keep it as a row to train on"
        ),
    ]
    if not last:
        acts.append(act("continue", "Continue from here", place, "Take back what followed; it is kept as a branch"))
    return f'<article class="pt-turn pt-model bot">{head}{body}{below}<p class="pt-acts">{"".join(acts)}</p></article>'


def hits(found: Sequence[Hit]) -> str:
    """What the guards found in a question or an answer."""
    if not found:
        return ""
    verbs = {"block": "blocked", "mask": "masked", "flag": "flagged"}
    told = "; ".join(dict.fromkeys(f"{hit.guard} {verbs[hit.action]}: {hit.what}" for hit in found))
    return notice("warning", told)


def stats(turn: Turn) -> str:
    """`first token 34 ms · 61.0 tok/s · 34 tokens · finished`; nothing before an answer has ended."""
    if not turn.finish:
        return ""
    parts = []
    if turn.usage is not None and turn.usage.completion_tokens:
        usage = turn.usage
        parts.append(f"first token {latency(usage.first_token_seconds)}")
        if speed := usage.tokens_per_second:
            parts.append(f"{speed:,.0f} tok/s" if speed >= 100 else f"{speed:.1f} tok/s")
        parts.append(counted(usage.completion_tokens, "token"))
    return " · ".join([*parts, FINISH.get(turn.finish, turn.finish)])


def stats_line(said: Dialogue, side: Side) -> str:
    """The line under a pane: figures of its last answer, and what gave it; neither while names are hidden."""
    of = said.panes[side]
    last = of.turns[-1] if of.turns else None
    text = (of.waiting_for or "answering") if of.busy else stats(last) if last is not None else ""
    if said.hidden:
        text = "answering" if said.busy and last is not None else ""
    info = last.engine if last is not None and not said.hidden else None
    engine = f"{info.kind} · {info.precision} · {size(info.size_bytes)} · {info.device}" if info is not None else ""
    return f'<div class="pt-statsline"><b>{esc(text)}</b><span>{esc(engine)}</span></div>'


def parting(said: Dialogue) -> tuple[str, Difference | None]:
    """Whether the last answers to the same question are the same, in words, and where they part."""
    last = [pane for pane in said.open if pane.turns]
    questions = {pane.turns[-2].text for pane in last}
    if said.busy or len(last) != len(said.shown) or len(questions) != 1:
        return "", None
    if any(pane.turns[-1].finish not in ("stop", "length") for pane in last):
        return "", None
    texts = [pane.turns[-1].text for pane in last]
    if len(set(texts)) == 1:
        return "Both gave the same answer." if len(texts) == 2 else "All gave the same answer.", None
    found = first_difference(texts)
    return f"The answers differ {f'from word {found.word:,} on' if found else 'only in their spacing'}.", found


def bar(said: Dialogue, told: str, votes: str = "") -> str:
    """What is to say of all panes: where they part, which branch this is, what is edited, and the vote.

    told   how the answers compare; `votes` is HTML of what the votes so far add up to
    """
    parts = [f'<p class="pt-difference">{esc(told)}</p>'] if told else []
    if said.editing is not None:
        parts.append(
            f'<p class="pt-difference">Sending asks your edited question from its place on; what followed is kept as a '
            f"branch. {act('cancel-edit', 'Cancel')}</p>"
        )
    if len(said.branches) > 1 and not said.busy:
        back = act("branch", "‹", said.at - 1, "The branch before") if said.at else ""
        on = act("branch", "›", said.at + 1, "The next branch") if said.at + 1 < len(said.branches) else ""
        parts.append(f'<p class="pt-difference pt-branch">{back} Branch {said.at + 1} of {len(said.branches)} {on}</p>')
    if said.hidden:
        parts.append('<p class="pt-difference">The models chosen above answer in panes drawn by lot.</p>')
    if said.votable:
        parts.append(f'<p class="pt-vote">Which answer is better? {_choices(said)}</p>')
    elif said.blind and said.voted is not None:
        names = ", ".join(f"{LETTERS[side]} was {said.drawn[side]}" for side in said.shown if side in said.drawn)
        parts.append(notice("good", f"Thank you. {names}.", "The next message begins a new round."))
        parts.append(votes)
    return "".join(parts)


def _choices(said: Dialogue) -> str:
    from phi3tune.votes import BAD, TIE

    bad = "Both are bad" if len(said.shown) == 2 else "All are bad"
    choices = [(LETTERS[side], f"{LETTERS[side]} is better") for side in said.shown]
    return "".join(act("vote", text, choice) for choice, text in [*choices, (TIE, "Tie"), (BAD, bad)])


def prompt(name: str, pieces: Sequence[tuple[str, int, bool]], answered: int, settings: str) -> str:
    """What a model was given and said, token by token.

    pieces    text, id and whether it is a special token, of the prompt and then of the `answered` tokens of the answer
    """
    begun = len(pieces) - answered
    shown = pieces[:PROMPT_TOKENS_SHOWN]
    spans = "".join(
        f'<span class="{_token_class(special, place >= begun)}" title="{token_id}">{esc(_visible(text))}</span>'
        for place, (text, token_id, special) in enumerate(shown)
    )
    more = f" The first {PROMPT_TOKENS_SHOWN:,} are shown." if len(pieces) > len(shown) else ""
    line = f"{counted(begun, 'token')} given, {answered:,} answered.{more} {settings}"
    legend = '<p class="pt-legend"><span>given</span><span class="pt-learned">answered</span></p>'
    return (
        f'<h3 class="pt-small-heading">What {esc(name)} was given</h3><p class="pt-sub">{esc(line)}</p>{legend}'
        f'<div class="pt-tokens" tabindex="0">{spans}</div>'
    )


def messages(name: str, given: Sequence[object], settings: str) -> str:
    """What a model was given that renders chats by itself."""
    text = json.dumps(list(given), indent=1, ensure_ascii=False)
    return (
        f'<h3 class="pt-small-heading">What {esc(name)} was given</h3>'
        f'<p class="pt-sub">{esc(f"It makes the prompt of these messages by itself. {settings}")}</p>'
        f'<div class="pt-tokens" tabindex="0">{esc(text)}</div>'
    )


def _token_class(special: bool, answered: bool) -> str:
    return " ".join(name for name, wanted in (("pt-special", special), ("pt-learned", answered)) if wanted)


def _visible(text: str) -> str:
    return text.replace("\n", "⏎\n")
