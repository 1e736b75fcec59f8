"""An engine as a model of EleutherAI's lm-evaluation-harness. Imported only where the harness is installed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from lm_eval.api.model import LM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from phi3tune.chat import Message
from phi3tune.engines.base import Engine, Request, Sampling
from phi3tune.events import Progress, Reporter

_SLICE = 16  # requests between two looks at the stop file
_MAX_NEW_TOKENS = 256  # what the harness's own models take where a task says nothing
_MARK = "\0"


class StopRequested(Exception):  # noqa: N818  no error: the user asked for it
    """Raised inside the harness, which knows no way to stop."""


class EngineLM(LM):  # type: ignore[misc]
    """Answers and scores for the harness, prompts rendered by our renderer.

    The harness hands prompts around as text. So that no text can forge a role, a chat travels through it as JSON
    between two NUL characters; what follows the second one is the beginning of the answer (`gen_prefix`). Contexts
    that are not chats (there are none but empty ones in chat tasks) are scored behind the end-of-text token.
    """

    def __init__(self, engine: Engine, reporter: Reporter) -> None:
        super().__init__()
        self._engine = engine
        self._reporter = reporter

    @property
    def tokenizer_name(self) -> str:
        return self._engine.info.name

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        begun = "" if add_generation_prompt or chat_history[-1]["role"] != "assistant" else chat_history[-1]["content"]
        messages = chat_history[:-1] if begun else chat_history
        return f"{_MARK}{json.dumps(messages)}{_MARK}{begun}"

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Log-probability of each continuation, and whether greedy decoding would give it."""
        found = []
        for request in self._paced(requests):
            context, continuation = request.args
            given, wanted = self._pair(context, continuation)
            result = self._score(given, wanted)
            self.cache_hook.add_partial("loglikelihood", request.args, result)
            found.append(result)
        return found

    def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
        """Log-probability of each whole text, in windows of the context; every token is predicted once."""
        found = []
        for request in self._paced(requests):
            (text,) = request.args
            renderer = self._engine.renderer
            windows = get_rolling_token_windows(
                token_list=renderer.encode(text),
                prefix_token=renderer.eos_id,
                max_seq_len=self._engine.info.context_length - 1,
                context_len=1,
            )
            total = sum(self._score(*make_disjoint_window(window))[0] for window in windows)
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
            found.append(total)
        return found

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Answers, cut before the first of the task's stop texts. Greedy unless the task asks for sampling."""
        found = []
        batch: list[Any] = []
        for place, request in enumerate(self._paced(requests)):
            batch.append(request)
            if len(batch) == _SLICE or place == len(requests) - 1:
                answers = self._engine.generate([self._request(*each.args) for each in batch])
                for each, answer in zip(batch, answers, strict=True):
                    text = _cut(answer.text, each.args[1].get("until") or [])
                    self.cache_hook.add_partial("generate_until", each.args, text)
                    found.append(text)
                batch = []
        return found

    def _paced(self, requests: Sequence[Any]) -> Iterator[Any]:
        """The requests, with progress, and a look at the stop file now and then."""
        for done, request in enumerate(requests):
            if done % _SLICE == 0:
                if self._reporter.stop_requested():
                    raise StopRequested
                self._reporter.emit(Progress(done=done, total=len(requests), unit="requests"))
            yield request

    def _pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Ids of what is given and of what is to be scored; split as the harness does, on the ids of the whole."""
        renderer = self._engine.renderer
        messages, begun = _chat(context)
        if messages is None:
            before = renderer.encode(begun)
            whole = renderer.encode(begun + continuation)
            return [renderer.eos_id, *before], whole[len(before) :]
        before = renderer.encode(begun)
        whole = renderer.encode(begun + continuation)
        return [*renderer.prompt(messages), *before], whole[len(before) :]

    def _score(self, given: Sequence[int], wanted: Sequence[int]) -> tuple[float, bool]:
        """What does not fit the context is cut at its beginning, as the harness's own models do."""
        if not wanted:
            return 0.0, True
        ids = [*given, *wanted][-self._engine.info.context_length :]
        scores, count = self._engine.score(ids), min(len(wanted), len(ids) - 1)
        greedy = bool((scores.argmax[-count:] == ids[-count:]).all())
        return float(scores.logprobs[-count:].sum(dtype="float64")), greedy

    def _request(self, context: str, settings: dict[str, Any]) -> Request:
        sampling = Sampling(
            max_new_tokens=int(settings.get("max_gen_toks", _MAX_NEW_TOKENS)),
            temperature=float(settings.get("temperature", 0.0)) if settings.get("do_sample") else 0.0,
            top_p=float(settings.get("top_p", 1.0)),
        )
        messages, begun = _chat(context)
        if messages is None:
            messages, begun = [Message(role="user", content=begun)], ""
        if "messages" in self._engine.info.can:
            extra = [Message(role="assistant", content=begun)] if begun else []
            return Request((), sampling, [*messages, *extra])
        renderer, length = self._engine.renderer, self._engine.info.context_length
        ids = [*renderer.prompt(messages), *renderer.encode(begun)]
        return Request(ids[-max(1, length - sampling.max_new_tokens) :], sampling)


def _chat(context: str) -> tuple[list[Message] | None, str]:
    """The messages of a context and the beginning of the answer; None and the text where it is no chat."""
    if not context.startswith(_MARK):
        return None, context
    messages, _, begun = context[1:].partition(_MARK)
    return [Message(role=each["role"], content=each["content"]) for each in json.loads(messages)], begun


def _cut(text: str, stops: str | Sequence[str]) -> str:
    for stop in [stops] if isinstance(stops, str) else stops:
        if stop:
            text = text.split(stop, 1)[0]
    return text
