"""What a request may hold: OpenAI's names, every number bounded, nothing converted in silence.

A field that OpenAI's clients may send and that changes nothing here is accepted and says so; any other one is refused.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

MAX_CHOICES = 8
_UNUSED = "Accepted, and not used."
StopText = Annotated[str, StringConstraints(min_length=1, max_length=500)]
Text = Annotated[str, StringConstraints(pattern=r"\S")]  # what is stripped to nothing is no prompt
TokenId = Annotated[int, Field(ge=0, le=2**31 - 1)]
Bias = Annotated[float, Field(ge=-100, le=100)]


class Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class TextPart(Body):
    type: Literal["text"]
    text: str


class ChatMessage(Body):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]
    name: str | None = Field(None, description=_UNUSED)

    def text(self) -> str:
        """The content, with a question mark for half a surrogate pair, which no file and no answer could hold."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return text.encode("utf-8", "replace").decode()


class TextFormat(Body):
    type: Literal["text"]


class JsonObjectFormat(Body):
    type: Literal["json_object"]


class JsonSchema(Body):
    name: str = Field(max_length=64)
    schema_: dict[str, Any] = Field(alias="schema", description="The JSON schema that the answer satisfies.")
    description: str | None = Field(None, description=_UNUSED)
    strict: bool | None = Field(None, description="Answers always satisfy the schema.")


class JsonSchemaFormat(Body):
    type: Literal["json_schema"]
    json_schema: JsonSchema


class RegexFormat(Body):
    """Not OpenAI's: an answer that matches a regular expression as a whole."""

    type: Literal["regex"]
    regex: str = Field(min_length=1, max_length=10_000)


class GrammarFormat(Body):
    type: Literal["grammar"]
    grammar: str = Field(min_length=1, max_length=100_000, description="In Lark's notation.")


ResponseFormat = Annotated[
    TextFormat | JsonObjectFormat | JsonSchemaFormat | RegexFormat | GrammarFormat, Field(discriminator="type")
]


class StreamOptions(Body):
    include_usage: bool | None = Field(None, description="End with a chunk that counts tokens.")
    include_obfuscation: bool | None = Field(None, description=_UNUSED)


class Drawing(Body):
    """How answers are drawn; the same for chats and for plain text."""

    model: str | None = Field(None, max_length=500, description="One of /v1/models; the first of them when left out.")
    temperature: float | None = Field(
        None, ge=0, le=2, description="0 always takes the likeliest token; 1 unless given."
    )
    top_p: float | None = Field(None, ge=0, le=1, description="Draw from the likeliest tokens of this share.")
    top_k: int | None = Field(None, ge=0, le=1_000, description="Not OpenAI's: so many of the likeliest; 0 for all.")
    repetition_penalty: float | None = Field(None, ge=1, le=2, description="Not OpenAI's: of arXiv 1909.05858.")
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    logit_bias: dict[str, Bias] | None = Field(None, max_length=300, description="Added to the logits of token ids.")
    max_tokens: int | None = Field(None, ge=1, le=131_072, description="Longest answer, in tokens.")
    n: int | None = Field(None, ge=1, le=MAX_CHOICES, description="Answers to each prompt.")
    seed: int | None = Field(None, ge=-(2**63), le=2**63 - 1, description="The same seed draws the same answer.")
    stop: StopText | Annotated[list[StopText], Field(max_length=4)] | None = Field(
        None, description="Texts that end the answer; they are left out of it."
    )
    stream: bool | None = None
    stream_options: StreamOptions | None = Field(None, description="Only together with stream.")
    user: str | None = Field(None, description=_UNUSED)


class ChatRequest(Drawing):
    messages: list[ChatMessage] = Field(min_length=1, max_length=10_000)
    max_completion_tokens: int | None = Field(None, ge=1, le=131_072, description="The newer name of max_tokens.")
    logprobs: bool | None = Field(None, description="Tell the log-probability of every token.")
    top_logprobs: int | None = Field(None, ge=0, le=20, description="Alternatives at each token, with logprobs.")
    response_format: ResponseFormat | None = Field(None, description="A form that the answer must have.")
    metadata: dict[str, str] | None = Field(None, description=_UNUSED)
    store: bool | None = Field(None, description=_UNUSED)
    service_tier: str | None = Field(None, description=_UNUSED)
    safety_identifier: str | None = Field(None, description=_UNUSED)
    prompt_cache_key: str | None = Field(None, description=_UNUSED)


class CompletionRequest(Drawing):
    prompt: (
        Text
        | Annotated[list[TokenId], Field(min_length=1)]
        | Annotated[list[Text], Field(min_length=1, max_length=64)]
        | Annotated[list[Annotated[list[TokenId], Field(min_length=1)]], Field(min_length=1, max_length=64)]
    ) = Field(description="Plain text or token ids that the answer goes on from; several of them get an answer each.")
    logprobs: int | None = Field(None, ge=0, le=5, description="Alternatives to tell at each token.")
    echo: Literal[False] | None = Field(None, description="Repeating the prompt is not supported.")
    best_of: Literal[1] | None = Field(None, description="Choosing among hidden answers is not supported.")


class ClassifyRequest(Body):
    model: str | None = Field(None, max_length=500, description="One of /v1/models; the first of them when left out.")
    input: Text | Annotated[list[Text], Field(min_length=1, max_length=1_024)] = Field(description="Texts to label.")
    user: str | None = Field(None, description=_UNUSED)


class FeedbackRequest(Body):
    """Not OpenAI's: what a person thinks of an answer."""

    id: str = Field(min_length=1, max_length=100, description="The id of the answer.")
    rating: Literal[1, -1] = Field(description="1 for good, -1 for bad.")
