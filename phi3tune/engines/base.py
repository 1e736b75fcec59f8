"""What every engine understands: requests in, chunks out, with usage and timings that compare."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from phi3tune.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from phi3tune.chat import Message, Renderer
    from phi3tune.config import SamplingConfig

FinishReason = Literal["stop", "length", "cancelled"]
GuideKind = Literal["json_schema", "regex", "grammar"]
Cancelled = Callable[[], bool]


class EngineError(UserError):
    """An engine's process ended, or met a fault. The mistake is not in what was asked, so the exit code is 1."""

    exit_code = 1


@dataclass(frozen=True)
class EngineInfo:
    """Facts about a loaded model.

    precision       number format of the weights: fp32, bf16, fp16, int8, int4, or unknown
    context_length  tokens, prompt and answer together; 0 where an endpoint does not tell
    vocab_size      columns of the logits; 0 where an endpoint does not tell
    size_bytes      weights on disk, adapter included; 0 for an endpoint
    can             abilities beyond `stream` and `generate`: score, logits, batch, adapters, classify, guide
                    (structured answers), logprobs, and messages for an engine that answers to messages and not to
                    token ids
    """

    name: str
    kind: str
    precision: str
    device: str
    context_length: int
    vocab_size: int
    size_bytes: int
    can: frozenset[str]


@dataclass(frozen=True)
class Guide:
    """A form that an answer must have: a JSON schema as JSON text, a regular expression, or a Lark grammar."""

    kind: GuideKind
    text: str


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn. Temperature 0 always takes the likeliest token.

    top_k                 draw only from so many of the likeliest tokens; 0 for all
    repetition_penalty    above 1, tokens of prompt and answer become less likely (arXiv 1909.05858)
    presence_penalty, frequency_penalty
                          as OpenAI's: taken off the logits of tokens of the answer, once or for each time
    logit_bias            added to the logits of these token ids
    stop                  texts at which the answer ends, the text itself left out
    logprobs              how many alternatives to tell at each token; None tells no log-probability at all
    guide                 a form that the answer must have
    """

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    top_k: int = 0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    guide: Guide | None = None


@dataclass(frozen=True)
class Request:
    """What is to be answered: a rendered prompt, or for engines that render by themselves the chat's messages.

    owner  whose chat it is: what an engine keeps of it is gone on with for the same owner only
    """

    prompt_ids: Sequence[int]
    sampling: Sampling = Sampling()
    messages: Sequence[Message] | None = None
    owner: str = ""


@dataclass(frozen=True)
class Usage:
    """Counts in tokens, the end token not among them; 0.0 where there was nothing to time.

    cached_tokens         prompt tokens that an earlier turn had already paid for
    first_token_seconds   prefill and the first token
    tokens_per_second     decoding after the first token
    """

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    first_token_seconds: float
    tokens_per_second: float


@dataclass(frozen=True)
class TokenLogprob:
    """One token of an answer with its log-probability, before temperature and penalties; `top` likeliest first."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Chunk:
    """A piece of an answer. Only the last one has a finish reason and usage; its text is what was held back.

    `logprobs` has one entry for each of `token_ids` where they were asked for.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True)
class Completion:
    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    usage: Usage
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True)
class Scores:
    """For each of the T - 1 next tokens of a sequence: its log-probability, and the likeliest token instead."""

    logprobs: np.ndarray  # float32 [T-1]
    argmax: np.ndarray  # int64 [T-1]


class Engine(Protocol):
    """One loaded model. It serves one request at a time; the pool queues them."""

    @property
    def info(self) -> EngineInfo: ...

    @property
    def renderer(self) -> Renderer: ...

    def stream(self, request: Request, cancelled: Cancelled = ...) -> Iterator[Chunk]:
        """Chunks of one answer. `cancelled` is asked before every token. `UserError`: the prompt is too long."""
        ...

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Answers in the order of the requests, batched where the engine can."""
        ...

    def score(self, token_ids: Sequence[int]) -> Scores:
        """Log-probability of every token of a sequence of T tokens but the first."""
        ...

    def logits(self, token_ids: Sequence[int], positions: Sequence[int]) -> Iterator[np.ndarray]:
        """Logits of what follows each of the ascending `positions`, in chunks of float32 [k, V]."""
        ...

    def close(self) -> None: ...


def chat_request(engine: Engine, messages: Sequence[Message], sampling: Sampling) -> Request:
    """The request for the answer to a chat, in the form that the engine takes."""
    if "messages" in engine.info.can:
        return Request((), sampling, messages)
    return Request(engine.renderer.prompt(messages), sampling)


def sampling_of(config: SamplingConfig) -> Sampling:
    """The settings of a form or of flags, as an engine takes them."""
    return Sampling(
        max_new_tokens=config.max_new_tokens,
        temperature=config.temperature,
        top_p=config.top_p,
        seed=config.seed,
        top_k=config.top_k,
        repetition_penalty=config.repetition_penalty,
        stop=tuple(config.stop),
    )


def never() -> bool:
    """The `cancelled` of a request that nobody cancels."""
    return False


def room(request: Request, context_length: int) -> int:
    """How many tokens the answer may have. Raises `UserError` when the prompt fills the context."""
    prompt, wanted = len(request.prompt_ids), request.sampling.max_new_tokens
    if prompt == 0:
        raise ValueError("a prompt has at least one token")
    if prompt >= context_length:
        raise UserError(
            f"the chat has {prompt} tokens and the model's context is {context_length}, answer included; "
            "shorten it or start a new chat"
        )
    return min(wanted, context_length - prompt)


def check_length(token_ids: Sequence[int], context_length: int) -> None:
    """Raise `UserError` when a sequence to be scored does not fit the context."""
    if len(token_ids) > context_length:
        raise UserError(
            f"a conversation of {len(token_ids)} tokens does not fit the model's context of {context_length}; cut it"
        )


def collect(chunks: Iterable[Chunk]) -> Completion:
    """One answer from its chunks."""
    text: list[str] = []
    ids: list[int] = []
    logprobs: list[TokenLogprob] = []
    for chunk in chunks:
        text.append(chunk.text)
        ids.extend(chunk.token_ids)
        logprobs.extend(chunk.logprobs)
        if chunk.finish_reason is not None and chunk.usage is not None:
            return Completion("".join(text), tuple(ids), chunk.finish_reason, chunk.usage, tuple(logprobs))
    raise RuntimeError("the stream ended without its last chunk")
