"""One model over the rows: its greedy answers, and the likelihood it gives to the reference answers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from phi3tune.data import Conversation
from phi3tune.engines import open_engine
from phi3tune.engines.base import Completion, Engine, Request, Sampling
from phi3tune.engines.models import ModelRef, verify
from phi3tune.evaluation.metrics import TokenScore, exact_match, mean, token_f1
from phi3tune.events import Progress, Reporter

_SMALL_BYTES = 64 * 1024**2
_SLICE = 32  # rows between two looks at the stop file


@dataclass
class Result:
    """What one model did. `answers` and `unanswered` are keyed by the row's place; seconds without loading."""

    answers: dict[int, Completion] = field(default_factory=dict)
    unanswered: dict[int, str] = field(default_factory=dict)
    tokens: TokenScore = field(default_factory=TokenScore)
    truncated: int = 0
    answering_seconds: float = 0.0
    scoring_seconds: float = 0.0


class RowCounter:
    """Rows done over all models, and the time that the rest will take at the pace so far."""

    def __init__(self, reporter: Reporter, total: int) -> None:
        self._reporter = reporter
        self._total = total
        self._done = 0
        self._busy = 0.0

    def add(self, rows: int, seconds: float) -> None:
        self._done += rows
        self._busy += seconds
        left = self._busy / self._done * (self._total - self._done)
        self._reporter.emit(Progress(done=self._done, total=self._total, unit="rows", eta_seconds=left))

    def stop_requested(self) -> bool:
        return self._reporter.stop_requested()


@contextmanager
def opened(refs: Sequence[ModelRef]) -> Iterator[list[Engine]]:
    """Engines of models that share a base or a build, which is loaded once; closed at the end.

    Raises `UserError` when one cannot be loaded.
    """
    if refs[0].kind != "torch":
        engine = open_engine(refs[0], threads=threads_for(refs[0].base))
        try:
            yield [engine] * len(refs)
        finally:
            engine.close()
        return
    from phi3tune.engines.torch_engine import TorchEngine

    for ref in refs:
        verify(ref)
    adapters = {ref.ref: ref.adapter for ref in refs if ref.adapter is not None}
    torch_engine = TorchEngine(refs[0].base, adapters, threads=threads_for(refs[0].base))
    try:
        yield [torch_engine.with_adapter(ref.ref if ref.adapter else None, label=ref.label) for ref in refs]
    finally:
        torch_engine.close()


def threads_for(folder: Path) -> int | None:
    """One thread for a model of a few million parameters, else the engine's own choice (None).

    Its matrices are too small to share: on a machine that also trains, a second thread that has to be waited for
    at every one of them makes phi3-nano ten times slower.
    """
    size = sum(path.stat().st_size for pattern in ("*.safetensors", "*.onnx.data") for path in folder.glob(pattern))
    return 1 if size < _SMALL_BYTES else None


def run(engine: Engine, chats: Sequence[Conversation], max_new_tokens: int, counter: RowCounter) -> Result | None:
    """Answer the last turn of every chat and score all its assistant turns; None when the user stopped it."""
    result = Result()
    prompts = [engine.renderer.prompt(chat.prompt_messages) for chat in chats]
    # Rows of like length together: a batch is padded to its longest.
    order = sorted(range(len(chats)), key=lambda place: len(prompts[place]))
    sampling = Sampling(max_new_tokens=max_new_tokens)
    for start in range(0, len(order), _SLICE):
        if counter.stop_requested():
            return None
        places, began = order[start : start + _SLICE], time.monotonic()
        short = [place for place in places if len(prompts[place]) < engine.info.context_length]
        completions = engine.generate([Request(prompts[place], sampling) for place in short])
        result.answers.update(zip(short, completions, strict=True))
        for place in set(places).difference(short):
            length, context = len(prompts[place]), engine.info.context_length
            result.unanswered[place] = f"the prompt has {length} tokens and the model's context is {context}"
        answered = time.monotonic()
        if "score" in engine.info.can:
            for place in places:
                example = engine.renderer.training_example(chats[place].messages, engine.info.context_length)
                result.truncated += example.truncated
                if example.trained:
                    scores = engine.score(example.input_ids)
                    result.tokens.add(example, scores.logprobs, scores.argmax)
        scored = time.monotonic()
        result.answering_seconds += answered - began
        result.scoring_seconds += scored - answered
        counter.add(len(places), scored - began)
    return result


def summary(ref: ModelRef, engine: Engine, chats: Sequence[Conversation], result: Result) -> dict[str, Any]:
    """The model's part of the report. A metric that could not be had is None, with the reason in `reasons`.

    A row without an answer counts as wrong: shares of two models are over the same rows.
    """
    pairs = [(_text(result, place), chat.reference) for place, chat in enumerate(chats)]
    reason = (
        f"{engine.info.kind} cannot score given answers"
        if "score" not in engine.info.can
        else "no loss-bearing token fits the model's context"
    )
    metrics = {
        "exact_match": mean([float(exact_match(answer, reference)) for answer, reference in pairs]),
        "token_f1": mean([token_f1(answer, reference) for answer, reference in pairs]),
        "perplexity": result.tokens.perplexity,
        "token_accuracy": result.tokens.accuracy,
    }
    return {
        "model": ref.ref,
        "label": ref.label,
        "metrics": metrics,
        "reasons": {name: reason for name, value in metrics.items() if value is None},
        "counts": {
            "exact_match": len(pairs),
            "token_f1": len(pairs),
            "perplexity": result.tokens.tokens,
            "token_accuracy": result.tokens.tokens,
            "answered": len(result.answers),
            "unanswered": len(result.unanswered),
            "cut_answers": sum(answer.finish_reason == "length" for answer in result.answers.values()),
            "answer_tokens": sum(answer.usage.completion_tokens for answer in result.answers.values()),
            "truncated_rows": result.truncated,
        },
        "seconds": {"answering": round(result.answering_seconds, 3), "scoring": round(result.scoring_seconds, 3)},
        "engine": {
            "kind": engine.info.kind,
            "precision": engine.info.precision,
            "device": engine.info.device,
            "context_length": engine.info.context_length,
            "size_bytes": engine.info.size_bytes,
        },
    }


def row(place: int, chat: Conversation, results: Sequence[tuple[ModelRef, Result]]) -> dict[str, Any]:
    """One line of rows.jsonl: the chat up to its last turn, the reference, and what each model said."""
    answers = []
    for ref, result in results:
        answer = _text(result, place)
        completion = result.answers.get(place)
        answers.append(
            {
                "model": ref.ref,
                "answer": None if completion is None else answer,
                "finish_reason": None if completion is None else completion.finish_reason,
                "reason": result.unanswered.get(place),
                "exact_match": exact_match(answer, chat.reference),
                "token_f1": token_f1(answer, chat.reference),
            }
        )
    return {
        "file": chat.file,
        "row": chat.row,
        "prompt": list(chat.prompt_messages),
        "reference": chat.reference,
        "answers": answers,
    }


def _text(result: Result, place: int) -> str:
    return result.answers[place].text if place in result.answers else ""
