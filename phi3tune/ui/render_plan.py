"""The plan of a run as HTML."""

from __future__ import annotations

from typing import TYPE_CHECKING

from phi3tune.ui.render import counted, duration, esc, facts, notice, number, size

if TYPE_CHECKING:
    from phi3tune.training.plan import Plan

PARTS = ("weights", "adapter", "gradients", "optimizer", "activations", "logits", "runtime")


def plan(found: Plan) -> str:
    """Figures, where the memory goes, and whether it fits, with the change that makes it fit."""
    figures = [
        (number(found.steps), "optimizer steps"),
        (number(found.tokens), "tokens an epoch"),
        (number(found.trained_tokens), "of them learned from"),
        (f"about {duration(found.seconds)}", f"time ({duration(found.seconds_low)} to {duration(found.seconds_high)})"),
        (size(found.memory.peak), f"peak memory of {size(found.device_memory)}"),
        (size(found.disk_needed), f"disk of {size(found.disk_free)} free"),
    ]
    if found.download:
        figures.append((size(found.download), "to download first"))
    if found.cost:
        figures.append((f"{found.cost:,.2f}", "cost, in the currency of the price"))
    return facts(figures) + _memory(found) + _verdict(found) + _grounds(found)


def _memory(found: Plan) -> str:
    """A bar of what the peak is made of, and its legend."""
    parts = [(name, getattr(found.memory, name)) for name in PARTS]
    shown = [(name, held) for name, held in parts if held > 0.004 * found.memory.peak]
    total = sum(held for _, held in shown) or 1
    bar = "".join(
        f'<i class="pt-part-{place}" style="width:{100 * held / total:.1f}%" title="{name}: {size(held)}"></i>'
        for place, (name, held) in enumerate(shown)
    )
    legend = "".join(
        f'<span><i class="pt-part-{place}"></i>{name} {size(held)}</span>' for place, (name, held) in enumerate(shown)
    )
    return (
        f'<div class="pt-parts" role="img" aria-label="where the memory goes">{bar}</div><p class="pt-key">{legend}</p>'
    )


def _verdict(found: Plan) -> str:
    if found.disk_needed > found.disk_free:
        text = f"The disk is too small: {size(found.disk_needed)} needed, {size(found.disk_free)} free."
        return notice("bad", text, "Free some space, or keep fewer checkpoints.")
    held = f"{size(found.memory.peak)} at the peak, {size(found.memory_free)} free on {found.device}"
    if found.verdict == "fits":
        return notice("good", f"It fits: {held}.")
    change = f"{found.remedy.flag} makes it fit ({size(found.remedy.peak)})." if found.remedy else ""
    if found.verdict == "tight":
        return notice("warning", f"It is tight: {held}.", change)
    return notice("bad", f"It does not fit: {held}.", change or "No single setting makes it fit; take a smaller model.")


def _grounds(found: Plan) -> str:
    again = ", activations recomputed" if found.checkpointing else ""
    text = (
        f"{counted(found.rows, 'row')}, {number(round(found.epochs, 1))} epochs; {found.batch_size} rows a step, "
        f"{found.micro_batch} at once{again}. "
        f"{number(round(found.tokens_per_second))} tokens per second assumed: {found.speed_source}."
    )
    return f'<p class="pt-sub">{esc(text)}</p>'
