"""The plan of a run as HTML."""

from __future__ import annotations

from typing import TYPE_CHECKING

from phi3tune.ui.render import counted, duration, esc, explained, facts, notice, number, size
from phi3tune.ui.words import N, t, told

if TYPE_CHECKING:
    from phi3tune.training.plan import Plan

PARTS = {
    "weights": N("weights"),
    "adapter": N("adapter"),
    "gradients": N("gradients"),
    "optimizer": N("optimizer"),
    "activations": N("activations"),
    "logits": N("logits"),
    "runtime": N("runtime"),
}
TERMS = (
    (N("optimizer steps"), N("how often the model is corrected; each step learns from one batch of rows")),
    (N("tokens an epoch"), N("pieces of words that are read when every row has been seen once")),
    (N("weights"), N("the model itself")),
    (N("adapter"), N("the small part that is trained beside it")),
    (N("gradients"), N("which way each trained number has to move")),
    (N("optimizer"), N("what the optimizer remembers of earlier steps")),
    (N("activations"), N("what the rows of a batch look like inside the model; fewer rows at once make it smaller")),
    (N("logits"), N("the model's opinion on every possible next token")),
    (N("runtime"), N("the program and its libraries")),
)


def plan(found: Plan) -> str:
    """Figures, where the memory goes, and whether it fits, with the change that makes it fit."""
    figures = [
        (number(found.steps), t("optimizer steps")),
        (number(found.tokens), t("tokens an epoch")),
        (number(found.trained_tokens), t("of them learned from")),
        (
            t("about {time}", time=duration(found.seconds)),
            t("time ({low} to {high})", low=duration(found.seconds_low), high=duration(found.seconds_high)),
        ),
        (size(found.memory.peak), t("peak memory of {size}", size=size(found.device_memory))),
        (size(found.disk_needed), t("disk of {size} free", size=size(found.disk_free))),
    ]
    if found.download:
        figures.append((size(found.download), t("to download first")))
    if found.cost:
        figures.append((f"{found.cost:,.2f}", t("cost, in the currency of the price")))
    meaning = explained([(t(term), t(sentence)) for term, sentence in TERMS], t("What these figures mean"))
    return facts(figures) + _memory(found) + _verdict(found) + _grounds(found) + meaning


def _memory(found: Plan) -> str:
    """A bar of what the peak is made of, and its legend."""
    parts = [(t(said), getattr(found.memory, name)) for name, said in PARTS.items()]
    shown = [(name, held) for name, held in parts if held > 0.004 * found.memory.peak]
    total = sum(held for _, held in shown) or 1
    bar = "".join(
        f'<i class="pt-part-{place}" style="width:{100 * held / total:.1f}%" title="{esc(name)}: {size(held)}"></i>'
        for place, (name, held) in enumerate(shown)
    )
    legend = "".join(
        f'<span><i class="pt-part-{place}"></i>{esc(name)} {size(held)}</span>'
        for place, (name, held) in enumerate(shown)
    )
    return (
        f'<div class="pt-parts" role="img" aria-label="{esc(t("where the memory goes"))}">{bar}</div>'
        f'<p class="pt-key">{legend}</p>'
    )


def _verdict(found: Plan) -> str:
    if found.disk_needed > found.disk_free:
        need, free = size(found.disk_needed), size(found.disk_free)
        text = t("The disk is too small: {need} needed, {free} free.", need=need, free=free)
        return notice("bad", text, t("Free some space, or keep fewer checkpoints."))
    held = {"peak": size(found.memory.peak), "free": size(found.memory_free), "device": found.device}
    if found.verdict == "fits":
        return notice("good", t("It fits: {peak} at the peak, {free} free on {device}.", **held))
    change = ""
    if found.remedy:
        change = t("{flag} makes it fit ({size}).", flag=found.remedy.flag, size=size(found.remedy.peak))
    if found.verdict == "tight":
        return notice("warning", t("It is tight: {peak} at the peak, {free} free on {device}.", **held), change)
    text = t("It does not fit: {peak} at the peak, {free} free on {device}.", **held)
    return notice("bad", text, change or t("No single setting makes it fit; take a smaller model."))


def _grounds(found: Plan) -> str:
    text = t(
        "{rows}, {epochs} epochs; {batch} rows a step, {micro} at once.",
        rows=counted(found.rows, "row"),
        epochs=number(round(found.epochs, 1)),
        batch=found.batch_size,
        micro=found.micro_batch,
    )
    if found.checkpointing:
        again = t("Activations are worked out again in the backward pass, to save memory.")
        text = f"{text} {again}"
    speed = t(
        "{n} tokens per second assumed: {source}.",
        n=number(round(found.tokens_per_second)),
        source=told(found.speed_source),
    )
    return f'<p class="pt-sub">{esc(f"{text} {speed}")}</p>'
