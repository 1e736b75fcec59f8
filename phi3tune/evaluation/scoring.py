"""One model over the rows: its greedy answers, and the likelihood it gives to the reference answers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from phi3tune.data import Conversation
from phi3tune.engines import open_engine
from phi3tune.engines.base import Completion, Engine, Request, Sampling, chat_request
from phi3tune.engines.models import ModelRef, verify
from phi3tune.evaluation.labels import is_text
from phi3tune.evaluation.likelihood import Likelihood, likelihood
from phi3tune.evaluation.progress import Answer, Progress
from phi3tune.events import Progress as ProgressEvent
from phi3tune.events import Reporter

_SMALL_BYTES = 64 * 1024**2
BATCH = 32  # rows between two looks at the stop file, and between two syncs of the answers
_PLAIN_TEXT = "plain text is scored, not answered"


class RowCounter:
    """Rows done over all models, and the time that the rest will take at the pace so far."""

    def __init__(self, reporter: Reporter, total: int) -> None:
        self._reporter = reporter
        self._total = total
        self._done = 0
        self._timed = 0
        self._busy = 0.0

    def skip(self, rows: int) -> None:
        """Count rows that were done before this call."""
        self._done += rows

    def add(self, rows: int, seconds: float) -> None:
        self._done += rows
        self._timed += rows
        self._busy += seconds
        left = self._busy / self._timed * (self._total - self._done)
        self._reporter.emit(ProgressEvent(done=self._done, total=self._total, unit="rows", eta_seconds=left))

    def stop_requested(self) -> bool:
        return self._reporter.stop_requested()


def groups(refs: Sequence[ModelRef]) -> list[list[int]]:
    """Places of the models that share weights: a base and the adapters on it are loaded once, a classifier alone."""
    found: dict[tuple[str, str], list[int]] = {}
    for place, ref in enumerate(refs):
        alone = ref.folder is None or ref.task == "classification"
        shared = ref.ref if alone else str(ref.base.resolve())
        found.setdefault((ref.kind, shared), []).append(place)
    return list(found.values())


@contextmanager
def opened(refs: Sequence[ModelRef], *, key_variable: str = "OPENAI_API_KEY") -> Iterator[list[Engine]]:
    """Engines of models that share a base, a build or an endpoint, which is loaded once; closed at the end.

    Raises `UserError` when one cannot be loaded.
    """
    if refs[0].kind != "torch" or refs[0].task == "classification":
        threads = threads_for(refs[0].folder) if refs[0].folder is not None else None
        engine = open_engine(refs[0], threads=threads, key_variable=key_variable)
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


def facts(engine: Engine) -> dict[str, Any]:
    """What a report says of an engine."""
    info = engine.info
    return {
        "name": info.name,
        "kind": info.kind,
        "precision": info.precision,
        "device": info.device,
        "context_length": info.context_length,
        "size_bytes": info.size_bytes,
        "can": sorted(info.can),
    }


def run(
    engine: Engine, rows: Sequence[Conversation], max_new_tokens: int, progress: Progress, counter: RowCounter
) -> bool:
    """Answer the last turn of every row that is still open and score all its assistant turns.

    Rows of plain text are only scored. False when the user stopped it.
    """
    requests = _requests(engine, rows, max_new_tokens)
    # Rows of like length together: a batch is padded to its longest.
    order = sorted(range(len(rows)), key=lambda place: len(requests[place].prompt_ids) if place in requests else 0)
    order = [place for place in order if place not in progress.answers]
    for start in range(0, len(order), BATCH):
        if counter.stop_requested():
            return False
        places, began = order[start : start + BATCH], time.monotonic()
        said = answers(engine, {place: requests[place] for place in places if place in requests})
        answered = time.monotonic()
        likelihoods = {place: _score(engine, rows[place]) for place in places} if "score" in engine.info.can else {}
        scored = time.monotonic()
        each = (answered - began) / len(places), (scored - answered) / len(places)
        progress.add([_row(at, said.get(at, _PLAIN_TEXT), likelihoods.get(at), *each) for at in places])
        counter.add(len(places), scored - began)
    return True


def _requests(engine: Engine, rows: Sequence[Conversation], max_new_tokens: int) -> dict[int, Request]:
    sampling = Sampling(max_new_tokens=max_new_tokens)
    return {
        place: chat_request(engine, row.prompt_messages, sampling) for place, row in enumerate(rows) if not is_text(row)
    }


def answers(engine: Engine, requests: dict[int, Request]) -> dict[int, Completion | str]:
    """The answers by place, or why there is none."""
    context = engine.info.context_length
    fitting = {place: each for place, each in requests.items() if not context or len(each.prompt_ids) < context}
    found: dict[int, Completion | str] = dict(zip(fitting, engine.generate(list(fitting.values())), strict=True))
    for place in requests.keys() - fitting.keys():
        length = len(requests[place].prompt_ids)
        found[place] = f"the prompt has {length} tokens and the model's context is {context}"
    return found


def _score(engine: Engine, row: Conversation) -> Likelihood | None:
    example = engine.renderer.training_example(row.messages, engine.info.context_length)
    if not example.trained:
        return Likelihood(0.0, 0, 0, example.truncated, ())
    return likelihood(example, engine.score(example.input_ids), engine.renderer)


def _row(place: int, said: Completion | str, likelihood: Likelihood | None, answering: float, scoring: float) -> Answer:
    """`said` is the answer, or why there is none; the seconds are the row's share of its batch."""
    if isinstance(said, str):
        return Answer(place, reason=said, likelihood=likelihood, answering_seconds=answering, scoring_seconds=scoring)
    usage, tokens = said.usage, said.usage.completion_tokens
    # The token that ends an answer takes as long as any other; an answer that was cut off has none.
    steps = tokens - (said.finish_reason == "length")
    decoding = steps / usage.tokens_per_second if usage.tokens_per_second > 0 else 0.0
    return Answer(
        place,
        text=said.text,
        finish_reason=said.finish_reason,
        answer_tokens=tokens if tokens or not said.text else None,  # an endpoint that does not count gives 0
        seconds=usage.first_token_seconds + decoding,
        first_token_seconds=usage.first_token_seconds,
        likelihood=likelihood,
        answering_seconds=answering,
        scoring_seconds=scoring,
    )
