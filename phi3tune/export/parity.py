"""Does a build behave like the model it was made from? Measured on held-out conversations, short and long."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from phi3tune.chat import NO_LOSS, Message, Renderer
from phi3tune.config import Precision
from phi3tune.engines.base import Engine, Request, Sampling, collect
from phi3tune.engines.folders import PARITY
from phi3tune.errors import UserError
from phi3tune.events import Phase, Progress, Reporter
from phi3tune.export.divergence import TIE, Divergence, same_answer

if TYPE_CHECKING:
    from phi3tune.data import Conversation

__all__ = ["LIMITS", "PARITY", "PARITY_SCHEMA", "TIE", "Limits", "compare"]
PARITY_SCHEMA = 2  # 1 had no long prompts, and no limits of its own for fp16
GREEDY_TOKENS = 64
SHARES = (0.25, 0.5, 0.75, 1.0)  # of the context
LONG_GREEDY_TOKENS = 16
_LONG_POSITIONS = 256  # that are compared at the end of each long prompt
_PROMPTS_AT_ONCE = 8
_WIDEST = 25.0


@dataclass(frozen=True)
class Limits:
    """What a build must keep to. `greedy_match` is None where answers may differ."""

    kl_mean: float
    top1_agreement: float
    perplexity_ratio: float
    greedy_match: float | None = None

    def missed(self, measured: Mapping[str, float], where: str, widened: float = 1.0) -> list[str]:
        """A sentence for each limit that is missed, each limit so many times as wide. A NaN is within no limit."""
        divergence = self.kl_mean * widened
        agreement = max(0.0, 1 - (1 - self.top1_agreement) * widened)
        ratio = 1 + (self.perplexity_ratio - 1) * widened
        found = []
        if not measured["kl_mean"] <= divergence:
            found.append(f"mean KL {measured['kl_mean']:.3g} {where} is above {divergence:.3g}")
        if not measured["top1_agreement"] >= agreement:
            found.append(f"same first choice {measured['top1_agreement']:.1%} {where} is below {agreement:.1%}")
        if not measured["perplexity_ratio"] <= ratio:
            found.append(f"perplexity ratio {measured['perplexity_ratio']:.4f} {where} is above {ratio:.4f}")
        if self.greedy_match is not None and not measured["greedy_match"] >= self.greedy_match:
            found.append(f"same greedy answer {measured['greedy_match']:.1%} {where} is below {self.greedy_match:.1%}")
        return found


LIMITS: dict[Precision, Limits] = {
    "int4": Limits(kl_mean=0.02, top1_agreement=0.95, perplexity_ratio=1.02),
    "int8": Limits(kl_mean=0.002, top1_agreement=0.99, perplexity_ratio=1.005),
    # Its weights have 11 significant bits, between the 8 of int8 and the 24 of fp32.
    "fp16": Limits(kl_mean=1e-4, top1_agreement=0.995, perplexity_ratio=1.001),
    "fp32": Limits(kl_mean=1e-5, top1_agreement=1.0, perplexity_ratio=1.0001, greedy_match=1.0),
}


class _StoppedError(Exception):
    """The user stopped the job."""


def compare(
    merged: Engine,
    build: Engine,
    chats: Sequence[Conversation],
    precision: Precision,
    reporter: Reporter,
    *,
    context_tokens: int = 0,
    rope_switch: int | None = None,
) -> dict[str, Any] | None:
    """The content of parity.json: KL(merged || build) in nats, agreement, perplexities, and whether it passed.

    Distributions are compared at every loss-bearing token of `chats`; `greedy_match` is the share of chats whose
    last answer, decoded greedily up to 64 tokens, is the same token for token, or parts at a tie.
    `contexts` has the same at the end of prompts of 25, 50, 75 and 100 % of the context, or of `context_tokens` where
    that is less (0 leaves them out): the chats after each other as one. A longrope model turns to other rotary factors
    at `rope_switch` tokens, so prompts on its two sides are read apart. The limits hold at every length, but are
    `widened` where the model itself is less sure than at short prompts; `missed` has a sentence for each such.
    None when the user stopped the job. Raises `UserError` when no token can be compared.
    """
    try:
        measured = _short(merged, build, chats, reporter)
        length = min(context_tokens, merged.info.context_length, build.info.context_length)
        contexts = _long(merged, build, chats, length, rope_switch, reporter) if length else []
    except _StoppedError:
        return None
    limits = LIMITS[precision]
    for each in contexts:
        each["widened"] = _widened(measured["perplexity_merged"], each["perplexity_merged"])
        each["missed"] = limits.missed(each, f"at {each['length']:,} tokens", each["widened"])
    missed = [*limits.missed(measured, "at short prompts"), *(text for each in contexts for text in each["missed"])]
    return {
        "schema": PARITY_SCHEMA,
        "precision": precision,
        **_finite(measured),
        "contexts": [_finite(each) for each in contexts],
        "limits": asdict(limits),
        "missed": missed,
        "passed": not missed,
    }


def _short(merged: Engine, build: Engine, chats: Sequence[Conversation], reporter: Reporter) -> dict[str, Any]:
    """Every chat by itself."""
    length = min(merged.info.context_length, build.info.context_length)
    tokens = Divergence()
    prompts: list[list[int]] = []
    total = 2 * len(chats)
    for number, chat in enumerate(chats):
        _tell(reporter, number, total, "conversations")
        example = merged.renderer.training_example(chat.messages, max_length=length)
        positions = _learned(example.labels)
        prompt = merged.renderer.prompt(chat.prompt_messages)
        if positions and len(prompt) < length:
            tokens.add(merged, build, example.input_ids, positions)
            prompts.append(prompt)
    if not prompts:
        raise UserError("no held-out conversation fits the model's context, so the build cannot be compared")
    same = 0
    for start in range(0, len(prompts), _PROMPTS_AT_ONCE):
        _tell(reporter, len(chats) + start, total, "conversations")
        part = prompts[start : start + _PROMPTS_AT_ONCE]
        requests = [Request(prompt, Sampling(max_new_tokens=GREEDY_TOKENS)) for prompt in part]
        answers = zip(part, merged.generate(requests), build.generate(requests), strict=True)
        same += sum(same_answer(merged, prompt, a, b) for prompt, a, b in answers)
    _tell(reporter, total, total, "conversations")
    return {"rows": len(prompts), **tokens.result(), "greedy_match": same / len(prompts)}


def _long(
    merged: Engine,
    build: Engine,
    chats: Sequence[Conversation],
    longest: int,
    rope_switch: int | None,
    reporter: Reporter,
) -> list[dict[str, Any]]:
    """The chats after each other as one, compared at the end of each of four lengths; [] where there are no chats.

    What follows a token does not change what is expected after it, so one pass over the longest serves all lengths.
    """
    messages = _joined(chats, merged.renderer, longest)
    if not messages:
        return []
    reporter.emit(Phase(name="checking the build at long prompts"))
    example = merged.renderer.training_example(messages, max_length=longest)
    learned = _learned(example.labels)
    found: list[dict[str, Any]] = []
    lengths = [max(1, round(longest * share)) for share in SHARES]
    for beyond in (False, True):
        here = [length for length in lengths if (rope_switch is not None and length > rope_switch) == beyond]
        wanted = {length: [at for at in learned if at + 1 < length][-_LONG_POSITIONS:] for length in here}
        wanted = {length: positions for length, positions in wanted.items() if positions}
        if not wanted:
            continue
        union = sorted(set().union(*wanted.values()))
        _tell(reporter, len(found), len(lengths), "lengths")
        tokens = Divergence()
        tokens.add(merged, build, example.input_ids[: max(wanted)], union)
        for length, positions in wanted.items():
            _tell(reporter, len(found), len(lengths), "lengths")
            chosen = set(positions)
            figures = tokens.result([at in chosen for at in union])
            same = _answers_alike(merged, build, messages, length)
            found.append({"length": length, "share": length / longest, **figures, "greedy_match": float(same)})
    _tell(reporter, len(lengths), len(lengths), "lengths")
    return found


def _joined(chats: Sequence[Conversation], renderer: Renderer, tokens: int) -> list[Message]:
    """Whole turns of the chats in order, from the first again when they are used up, of at least so many tokens.

    Only the first chat's system message stays; rows of plain text have no turns.
    """
    turns = [
        [m for m in chat.messages if m["role"] != "system"] for chat in chats if chat.messages[0]["role"] != "text"
    ]
    turns = [part for part in turns if part and part[-1]["role"] == "assistant"]
    if not turns:
        return []
    lengths = [len(example.input_ids) for example in renderer.training_examples(turns)]
    first = chats[0].messages[0]
    joined, total = [first] if first["role"] == "system" else [], 0
    for part, length in itertools.cycle(zip(turns, lengths, strict=True)):
        if total >= tokens:
            return joined
        joined += part
        # Less the marks that a chat of its own begins and ends with.
        total += max(1, length - 2)
    raise AssertionError("unreachable")


def _answers_alike(merged: Engine, build: Engine, messages: Sequence[Message], length: int) -> bool:
    """Whether both give the same next answer to the longest beginning of the chat that leaves room for it."""
    asked = [at + 1 for at, message in enumerate(messages) if message["role"] == "user"]
    low, high = 0, len(asked) - 1
    prompt: list[int] = merged.renderer.prompt(messages[: asked[0]])
    while low < high:
        middle = (low + high + 1) // 2
        longer = merged.renderer.prompt(messages[: asked[middle]])
        if len(longer) + LONG_GREEDY_TOKENS <= length:
            low, prompt = middle, longer
        else:
            high = middle - 1
    if len(prompt) >= length:
        return True  # not even the first question fits, so there is no answer to compare
    # Streamed and not batched: the prompts begin alike, and an engine reads a shared beginning once.
    request = Request(prompt, Sampling(max_new_tokens=LONG_GREEDY_TOKENS))
    ours, theirs = (collect(engine.stream(request)) for engine in (merged, build))
    return same_answer(merged, prompt, ours, theirs)


def _widened(short: float, long: float) -> float:
    """How many times as wide the limits are where the merged model's perplexity is `long` and not `short`.

    Rounding moves a distribution in proportion to how open it is, so by the ratio of the negative log-likelihoods; 25
    at most, that damage still shows. A model within what it was trained for is held to the limits themselves; phi3-nano
    never saw a chat of more than a few turns, and its ratio is 5 at a quarter of its context and 24 at the whole of it.
    """
    if not (math.isfinite(short) and math.isfinite(long)) or long <= short:
        return 1.0
    return min(_WIDEST, math.log(long) / max(math.log(short), 1e-9))


def _learned(labels: Sequence[int]) -> list[int]:
    """Positions whose next token bears loss."""
    return [at for at, label in enumerate(labels[1:]) if label != NO_LOSS]


def _tell(reporter: Reporter, done: int, total: int, unit: str) -> None:
    if reporter.stop_requested():
        raise _StoppedError
    reporter.emit(Progress(done=done, total=total, unit=unit))


def _finite(measured: Mapping[str, Any]) -> dict[str, Any]:
    """The same with None for what is no number, as JSON wants it."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in measured.items()}
