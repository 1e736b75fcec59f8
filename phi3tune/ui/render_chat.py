"""The playground's conversations as HTML. A button names what it does in `data-act`, and where in `data-place`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from phi3tune.ui.dialogue import LETTERS, SIDES, Dialogue, Side
from phi3tune.ui.pane import Difference, Turn, first_difference
from phi3tune.ui.render import NONE, answer_text, bar, counted, empty, esc, explained, latency, notice, size
from phi3tune.ui.words import N, t, told
from phi3tune.votes import BAD, TIE

if TYPE_CHECKING:
    from phi3tune.guardrails import Hit

FINISH = {
    "stop": N("finished"),
    "length": N("cut at the longest answer"),
    "cancelled": N("stopped"),
    "error": N("failed"),
}
HIT = {"block": N("{guard} blocked: {what}"), "mask": N("{guard} masked: {what}"), "flag": N("{guard} flagged: {what}")}
BETTER: dict[Side, str] = {
    "left": N("The left one is better"),
    "right": N("The right one is better"),
    "third": N("The third one is better"),
}
WORDS = (
    (N("First token"), N("How long the model reads the chat before its answer begins.")),
    (N("Speed"), N("Tokens a second after the first one. A token is a piece of text: a short word, or a part of one.")),
    (N("Answer"), N("How many tokens the answer has. It is cut where it reaches the setting Max new tokens.")),
    (N("Temperature"), N("0 gives the same answer every time; higher values draw less likely words more often.")),
    (N("Top p"), N("Words are drawn from the likeliest ones that together make up this share; 1 leaves none out.")),
    (N("Top k"), N("Words are drawn from so many of the likeliest ones; 0 leaves none out.")),
    (N("Seed"), N("Above temperature 0, the same seed draws the same answer again.")),
    (N("System prompt"), N("An instruction that the model reads before the chat, such as which tone to answer in.")),
)
PROMPT_TOKENS_SHOWN = 4_000


def chat(said: Dialogue, side: Side, hint: str, differs: Difference | None = None) -> str:
    """A conversation. The newest turn is at the bottom and stays in view while it grows.

    While names are hidden, answers are shown when all are there: their speed would tell who gives them.
    """
    of = said.panes[side]
    if not of.turns:
        return f'<div class="pt-chat">{empty(t(hint), picture="chat")}</div>'
    turns = []
    for place, turn in enumerate(of.turns):
        last = place == len(of.turns) - 1
        if turn.role == "user":
            turns.append(_question(turn, place, "" if said.busy else act("edit", t("Edit"), place)))
            continue
        open_answer = last and (of.busy or (said.hidden and said.busy))
        marked = differs.places[said.shown.index(side)] if differs is not None and last else None
        turns.append(_answer(said, side, turn, place, last=last, pending=open_answer, mark=marked))
    # While it is written, an answer would be read aloud from its beginning again and again.
    log = f'<div class="pt-turns" role="log" aria-busy="{str(of.busy).lower()}">{"".join(turns)}</div>'
    return f'<div class="pt-chat" tabindex="0">{log}</div>'


def act(name: str, text: str, place: int | str = "", title: str = "") -> str:
    """A small button that tells the page what was pressed, and where."""
    hover = f' title="{esc(title)}"' if title else ""
    what = f'data-act="{esc(name)}" data-place="{esc(place)}"{hover}'
    return f'<button type="button" class="pt-act" {what}>{esc(text)}</button>'


def _question(turn: Turn, place: int, edit: str) -> str:
    head = f"<h4>{esc(t('You'))}{edit}</h4>"
    return f'<article class="pt-turn pt-user user">{head}<div class="pt-text">{esc(turn.text)}</div></article>'


def _answer(
    said: Dialogue, side: Side, turn: Turn, place: int, *, last: bool, pending: bool, mark: tuple[int, int] | None
) -> str:
    name = t("Model {letter}", letter=LETTERS[side]) if said.hidden else turn.model or t("Model")
    head = f"<h4>{esc(name)}{_copy() if turn.text and not pending else ''}</h4>"
    body = answer_text(turn.text, mark) if turn.text and not (pending and said.hidden) else ""
    if pending:
        body += f'<span class="pt-typing" role="img" aria-label="{esc(t("is answering"))}"><i></i><i></i><i></i></span>'
    elif turn.error:
        body += notice("bad", told(turn.error))
    elif not turn.text:
        body += f'<p class="pt-sub">{esc(t("No text."))}</p>'
    body += hits(turn.hits)
    if said.hidden or said.busy:
        return f'<article class="pt-turn pt-model bot">{head}{body}</article>'
    figures = " · ".join(value for _, value in stats(turn) if value != NONE) if not last else ""
    below = f'<p class="pt-sub pt-stats">{esc(figures)}</p>' if figures else ""
    acts = [
        act("prompt", t("Prompt"), place, t("Show exactly what the model was given, and its tokens")),
        act("correct", t("Correct"), place, t("Write what it should have said, and keep that as a row to train on")),
    ]
    if not last:
        hover = t("Take back what followed; it is kept as a branch")
        acts.append(act("continue", t("Continue from here"), place, hover))
    return f'<article class="pt-turn pt-model bot">{head}{body}{below}<p class="pt-acts">{"".join(acts)}</p></article>'


def hits(found: Sequence[Hit]) -> str:
    """What the guards found in a question or an answer."""
    if not found:
        return ""
    return notice("warning", "; ".join(dict.fromkeys(_hit(hit) for hit in found)))


def _hit(hit: Hit) -> str:
    return t(HIT[hit.action], guard=hit.guard, what=hit.what)


def stats(turn: Turn) -> list[tuple[str, str]]:
    """Figures of an answer that has ended, `(name, value with its unit)`: what `WORDS` explains, and how it ended."""
    if not turn.finish:
        return []
    parts = []
    if turn.usage is not None and turn.usage.completion_tokens:
        usage, speed = turn.usage, turn.usage.tokens_per_second
        parts.append((t("First token"), latency(usage.first_token_seconds)))
        tokens = t("{n} tok/s", n=f"{speed:,.0f}" if speed >= 100 else f"{speed:.1f}")
        parts.append((t("Speed"), tokens if speed else NONE))
        parts.append((t("Answer"), counted(usage.completion_tokens, "token")))
    return [*parts, (t("Ended"), t(FINISH[turn.finish]) if turn.finish in FINISH else turn.finish)]


def stats_line(said: Dialogue, side: Side) -> str:
    """Below a pane: figures of its last answer, and what gave it; neither while names are hidden. Before the first
    word: what is being waited for."""
    of = said.panes[side]
    last = of.turns[-1] if of.turns else None
    figures, below = "", ""
    if of.busy or (said.hidden and said.busy and last is not None):
        doing = t(of.waiting_for) if of.waiting_for and not said.hidden else t("answering")
        loaded = of.loaded if not said.hidden else None
        below = doing if loaded is None else t("{what}, {share} %", what=doing, share=f"{100 * loaded:.0f}")
        figures = bar(loaded, doing) if loaded is not None else ""
    elif last is not None and not said.hidden:
        cells = "".join(f"<div><dt>{esc(name)}</dt><dd>{esc(value)}</dd></div>" for name, value in stats(last))
        figures = f"<dl>{cells}</dl>"
        if (info := last.engine) is not None:
            below = f"{info.kind} · {info.precision} · {size(info.size_bytes)} · {info.device}"
    return f'<div class="pt-statsline">{figures}<p>{esc(below)}</p></div>'


def words() -> str:
    """What the figures and the settings of an answer mean."""
    return explained([(t(name), t(meaning)) for name, meaning in WORDS], t("What the figures and settings mean"))


def _copy() -> str:
    label = esc(t("Copy this answer"))
    return f'<button type="button" class="pt-copy" title="{label}" aria-label="{label}">{esc(t("Copy"))}</button>'


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
        return t("Both gave the same answer.") if len(texts) == 2 else t("All gave the same answer."), None
    found = first_difference(texts)
    if found is None:
        return t("The answers differ only in their spacing."), None
    return t("The answers differ from word {n} on.", n=f"{found.word:,}"), found


def between(said: Dialogue, comparison: str, votes: str = "") -> str:
    """What is to say of all panes: where they part, which branch this is, what is edited, and the vote.

    comparison   how the answers compare; `votes` is HTML of what the votes so far add up to
    """
    parts = [_line(comparison)] if comparison else []
    if said.busy:
        parts.append(_line(t("The models are answering. Stop, or Esc, ends that within a word.")))
    elif not said.begun:
        parts.append(_line(t("Ask both models one question; then say here whose answer is better.")))
    elif said.alike:
        parts.append(_line(t("The same model answered twice: choose another one, such as your run, to compare.")))
    if said.editing is not None:
        asks = t("Sending asks your edited question from its place on; what followed is kept as a branch.")
        parts.append(f'<p class="pt-difference">{esc(asks)} {act("cancel-edit", t("Cancel"))}</p>')
    if len(said.branches) > 1 and not said.busy:
        parts.append(f'<p class="pt-difference pt-branch">{_branches(said)}</p>')
    if said.hidden:
        parts.append(_line(t("The models chosen above answer in panes drawn by lot.")))
    if said.votable:
        parts.append(_vote(said))
    elif said.voted:
        parts.append(notice("good", _thanks(said), _after(said)) + votes)
    return "".join(parts)


def _line(text: str) -> str:
    return f'<p class="pt-difference">{esc(text)}</p>'


def _branches(said: Dialogue) -> str:
    back = act("branch", "‹", said.at - 1, t("The branch before")) if said.at else ""
    on = act("branch", "›", said.at + 1, t("The next branch")) if said.at + 1 < len(said.branches) else ""
    return f"{back} {esc(t('Branch {n} of {all}', n=said.at + 1, all=len(said.branches)))} {on}"


def _vote(said: Dialogue) -> str:
    """The question, a button for every choice, and what becomes of it."""
    named = {side: t("{letter} is better", letter=LETTERS[side]) if said.blind else t(BETTER[side]) for side in SIDES}
    bad = t("Both are bad") if len(said.shown) == 2 else t("All are bad")
    choices = [*((LETTERS[side], named[side]) for side in said.shown), (TIE, t("Tie")), (BAD, bad)]
    buttons = "".join(act("vote", text, choice) for choice, text in choices)
    becomes = t("Your vote joins the tally below. Only your choice and the models' names are kept, none of the text.")
    return (
        f'<div class="pt-vote" role="group" aria-labelledby="vote-question"><p id="vote-question">'
        f"{esc(t('Which answer is better?'))}</p><div>{buttons}</div><small>{esc(becomes)}</small></div>"
    )


def _thanks(said: Dialogue) -> str:
    if said.blind and said.drawn:
        drawn = ((LETTERS[side], said.drawn[side]) for side in said.shown if side in said.drawn)
        return (
            t("Thank you.") + " " + " ".join(t("{letter} was {model}.", letter=who, model=name) for who, name in drawn)
        )
    if said.voted in (TIE, BAD):
        return t("Thank you. Your vote is in the tally.")
    return t("Thank you. You preferred {model}.", model=said.voted)


def _after(said: Dialogue) -> str:
    if said.blind:
        return t("The next message begins a new round.")
    return t("Press Correct under an answer to teach a better one, or ask something else.")


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
    lines = [t("{given} tokens given, {answered} answered.", given=f"{begun:,}", answered=f"{answered:,}")]
    if len(pieces) > len(shown):
        lines.append(t("The first {n} are shown.", n=f"{len(shown):,}"))
    line = " ".join([*lines, settings])
    legend = (
        f'<p class="pt-legend"><span>{esc(t("given"))}</span><span class="pt-learned">{esc(t("answered"))}</span></p>'
    )
    return f'{_given(name)}<p class="pt-sub">{esc(line)}</p>{legend}<div class="pt-tokens" tabindex="0">{spans}</div>'


def messages(name: str, given: Sequence[object], settings: str) -> str:
    """What a model was given that renders chats by itself."""
    text = json.dumps(list(given), indent=1, ensure_ascii=False)
    line = f"{t('It makes the prompt of these messages by itself.')} {settings}"
    return f'{_given(name)}<p class="pt-sub">{esc(line)}</p><div class="pt-tokens" tabindex="0">{esc(text)}</div>'


def _given(name: str) -> str:
    return f'<h3 class="pt-small-heading">{esc(t("What {model} was given", model=name))}</h3>'


def _token_class(special: bool, answered: bool) -> str:
    return " ".join(name for name, wanted in (("pt-special", special), ("pt-learned", answered)) if wanted)


def _visible(text: str) -> str:
    return text.replace("\n", "⏎\n")
