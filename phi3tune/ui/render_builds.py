"""Builds of a model as HTML: how an export goes, and the proof that its build answers alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from phi3tune.builds import Build
from phi3tune.export import words
from phi3tune.jobs import JobView
from phi3tune.ui.render import (
    NONE,
    Column,
    bar,
    empty,
    esc,
    explained,
    facts,
    notice,
    number,
    share,
    size,
    table,
)  # fmt: skip
from phi3tune.ui.render_jobs import progress
from phi3tune.ui.words import N, t, told

VERDICTS = {"passed": N("PASSED"), "failed": N("FAILED"), "not compared": N("not compared")}
# Measures of `export.words`, by their title there.
MEASURES = (
    N("Mean KL divergence, nats"), N("99th percentile of it"), N("Same first choice"), N("Perplexity of the model"),
    N("Perplexity of the build"), N("Their ratio"), N("Same greedy answer"), N("Same label"),
    N("Largest change of a probability"), N("Mean change of a probability"), N("Limits widened, see below"),
    N("Tokens compared"), N("Size of the weights"), N("Time to load"), N("Prefill"), N("Decode"),
    N("Peak memory of the process"),
)  # fmt: skip
TERMS = {
    N("Parity"): N("The check that a build answers like the model it was made from: it passes within stated limits."),
    N("KL divergence"): N("How far the build's odds for the next token are from the model's, in nats; 0 is the same."),
    N("Same first choice"): N("Places at which both would write the same next token; also called top-1 agreement."),
    N("Perplexity ratio"): N("How much more the build is surprised by held-out text than the model; 1 is the same."),
    N("Same greedy answer"): N("Prompts that both answer alike when they always take their first choice."),
    N("Prefill and decode"): N("Tokens of a prompt read in a second, and tokens of an answer written in a second."),
}


def exports(found: Sequence[JobView], built: Sequence[Build]) -> str:
    """How the exports of one model go, newest first, and its builds: size, and parity with its verdict."""
    failed = found[0] if found and found[0].state == "failed" else None
    shown = running([job for job in found if job.active], failed)
    if built:
        shown += _proof(built[0]) + builds(built, buttons=False)
    return shown


def running(active: Sequence[JobView], failed: JobView | None) -> str:
    """Exports that run or wait, and why the last one failed."""
    why = ""
    if failed is not None:
        reason = told(failed.reason).rstrip(".") if failed.reason else t("no reason was given")
        text = t("The build {name} failed: {reason}.", name=failed.id, reason=reason)
        why = notice("bad", text, t("Nothing of it is kept; change what it names, then build again."))
    return "".join(progress(job) for job in active) + why


def packing(done: int, total: int) -> str:
    """How far the archive of a build is, in bytes."""
    line = t("packing")
    if total:
        line = t("packing: {n} of {total}", n=size(done), total=size(total))
    return bar(done / total if total else 0.0, t("progress of the download")) + f'<p class="pt-line">{esc(line)}</p>'


def builds(found: Sequence[Build], *, buttons: bool = True) -> str:
    """Every build with its proof in short. With `buttons`, a name is one that says which it is in `data-build`."""
    if not found:
        return empty(t("Builds will be listed here. Choose a model above and press Build."), picture="builds")
    columns = [
        Column(t("Build"), html=True),
        Column(t("Parity"), html=True),
        Column(t("Size"), numeric=True),
        Column(t("KL divergence, nats"), numeric=True),
        Column(t("Same first choice or label"), numeric=True),
        Column(t("Decode, tokens/s"), numeric=True),
        Column(t("Peak memory"), numeric=True),
        Column(t("Form")),
    ]
    terms = explained([(t(name), t(text)) for name, text in TERMS.items()], t("What these figures mean"))
    return table(columns, [_row(build, buttons) for build in found]) + terms


def _row(build: Build, buttons: bool) -> list[str]:
    parity, measured = build.parity or {}, build.measured
    speed, peak = measured.get("decode_tokens_per_second"), measured.get("peak_memory_bytes")
    name = f'<button type="button" class="pt-open" data-build="{esc(build.ref)}">{esc(build.label)}</button>'
    return [
        name if buttons else esc(build.label),
        _badge(build.verdict),
        size(build.size_bytes),
        _small(parity.get("kl_mean")),
        share(parity.get("top1_agreement", parity.get("same_label"))),
        number(speed),
        NONE if peak is None else size(int(peak)),
        build.form,
    ]


def detail(build: Build | None) -> str:
    """The whole proof of one build: verdict, every measure at every length, size and speed."""
    if build is None:
        return ""
    if build.parity is None:
        return _proof(build)
    _, rows = words.figures(build.parity)
    cells = [[t(title), _limit(limit), *map(_times, values)] for title, limit, *values in rows]
    cost = facts([(value, t(name)) for name, value in words.measured(build.measured)])
    remark = words.remark(build.parity)
    why = f'<p class="pt-sub">{esc(told(remark))}</p>' if remark else ""
    return _proof(build) + table(_lengths(build.parity), cells) + why + (cost if build.measured else "")


def _lengths(parity: Mapping[str, Any]) -> list[Column]:
    """The columns of `words.figures`: a measure, its limit, and its value at every length of prompts."""
    contexts = parity.get("contexts") or []
    lengths = [t("Short prompts") if contexts else t("Held-out rows")]
    lengths += [t("{n} tokens ({share})", n=f"{each['length']:,}", share=f"{each['share']:.0%}") for each in contexts]
    return [Column(t("Measure")), Column(t("Limit")), *(Column(title, numeric=True) for title in lengths)]


def _limit(text: str) -> str:
    bound, _, value = text.rpartition(" ")
    if bound == "at most":
        return t("at most {value}", value=value)
    return t("at least {value}", value=value) if bound == "at least" else text


def _times(text: str) -> str:
    number, _, unit = text.partition(" ")
    return t("{n} times", n=number) if unit == "times" else told(text)


def _proof(build: Build) -> str:
    """In one sentence, whether a build answers like its model, or why that is not known; and what to do then."""
    if build.failing and build.parity is None:
        return notice("warning", t("The proof of {build} cannot be read.", build=build.label), t("Build it again."))
    if build.parity is not None:
        text = f"{build.label}: {told(words.verdict(build.parity))}"
        if build.verdict == "passed":
            return notice("good", text, t("Talk to it in the Playground, beside the model it was made from."))
        return notice("warning", text, t("Build it again with a higher precision; this one may answer differently."))
    if build.form == "merged":
        return notice("info", t("These are the weights that builds are made from and compared with."))
    text = t(
        "{build} was made for {device} and was not compared with its model on this machine.",
        build=build.label,
        device=build.device,
    )
    return notice("warning", text, t("Evaluate it where it runs."))


def _badge(verdict: str) -> str:
    mark, text = {"passed": "pt-right", "failed": "pt-wrong"}.get(verdict), esc(t(VERDICTS[verdict]))
    return f'<b class="{mark}">{text}</b>' if mark else text


def _small(value: float | None) -> str:
    return NONE if value is None else f"{value:.3g}"
