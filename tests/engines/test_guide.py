"""Forms of answers, with both kinds of tokenizer: what comes out keeps to them, whatever the model would say."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phi3tune.chat import Renderer
from phi3tune.engines import guide as guides
from phi3tune.engines.base import Completion, Guide, Request, Sampling, collect, never
from phi3tune.engines.decoding import Answer, Context, chunks, decode
from phi3tune.engines.guide import Guides
from phi3tune.errors import UserError
from phi3tune.paths import NANO
from tests.fakes import TOKENIZER

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["ä", "日本", "🎉"]}, "minItems": 1, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}


class Noise(Context):
    """Logits are noise: a form is kept by the guide or not at all."""

    def __init__(self, vocab_size: int, seed: int) -> None:
        super().__init__(rope_switch=None, capacity=10_000)
        self._random, self._size = np.random.default_rng(seed), vocab_size

    def _append(self, ids: Sequence[int]) -> np.ndarray:
        return self._random.normal(size=self._size).astype(np.float32) * 4

    def _crop(self, length: int) -> None:
        """Nothing is kept."""


class Model:
    def __init__(self, folder: Path, vocab_size: int) -> None:
        self.renderer, self.vocab_size = Renderer.load(folder), vocab_size
        self.guides = Guides(folder, self.renderer, vocab_size)

    def ask(self, guide: Guide, seed: int, tokens: int = 400) -> Completion:
        request = Request([5], Sampling(tokens, temperature=1.0, seed=seed, guide=guide))
        answer = Answer(request, self.renderer, tokens, self.guides.start(guide))
        return collect(chunks(decode(Noise(self.vocab_size, seed), request, answer, never)))


@pytest.fixture(scope="module", params=[(TOKENIZER, 32_064), (NANO, 4096)], ids=["sentencepiece", "byte-level"])
def model(request: pytest.FixtureRequest) -> Model:
    return Model(*request.param)


def schema(value: Any) -> Guide:
    return Guide("json_schema", json.dumps(value))


def test_json_schema(model: Model) -> None:
    for seed in range(20):
        answer = model.ask(schema(PERSON), seed)
        assert answer.finish_reason == "stop"
        person = json.loads(answer.text)
        assert list(person) == ["name", "age", "tags"]
        assert len(person["name"]) <= 20
        assert 0 <= person["age"] <= 150
        assert set(person["tags"]) <= {"ä", "日本", "🎉"}
        assert answer.text == json.dumps(person, ensure_ascii=False) or "\\" in answer.text, "no free blanks"


@pytest.mark.parametrize(
    "pattern", ["[0-9]{3}-[0-9]{4}", "(?i:yes|no)", "[äöü]{2}🎉{1,2}", "a{0,3}b?", r"/x\n\"y", "日本?"]
)
def test_regular_expression(model: Model, pattern: str) -> None:
    for seed in range(10):
        answer = model.ask(Guide("regex", pattern), seed)
        assert re.fullmatch(pattern, answer.text), answer.text
        assert answer.finish_reason == "stop"
        assert answer.text == model.renderer.decode(answer.token_ids)


def test_grammar(model: Model) -> None:
    grammar = 'start: sum\nsum: NUMBER (" + " NUMBER){1,3}\nNUMBER: /[1-9][0-9]{0,3}/'
    for seed in range(10):
        text = model.ask(Guide("grammar", grammar), seed).text
        assert re.fullmatch(r"[1-9]\d{0,3}( \+ [1-9]\d{0,3}){1,3}", text), text


def test_the_end_comes_only_where_the_form_is_complete(model: Model) -> None:
    matcher = model.guides.start(Guide("regex", "ab+"))
    assert matcher is not None
    ends = sorted(model.renderer.end_ids)
    for text in "ab":
        assert not matcher.allowed(model.vocab_size)[ends].any()
        token = next(
            t for t in np.flatnonzero(matcher.allowed(model.vocab_size)) if model.renderer.pieces([t]) == [text]
        )
        matcher.take(int(token))
    assert matcher.allowed(model.vocab_size)[ends].all()
    assert not matcher.complete
    assert model.ask(Guide("regex", "a{40}"), 0, tokens=3).finish_reason == "length"


def test_special_tokens_are_no_text(model: Model) -> None:
    matcher = model.guides.start(Guide("regex", r"(.|\n)*"))
    assert matcher is not None
    allowed = set(np.flatnonzero(matcher.allowed(model.vocab_size)).tolist())
    special = {i for i in model.renderer.special_ids if model.renderer.pieces([i])[0].startswith("<|")}
    roles = special - set(model.renderer.end_ids)
    assert len(roles) >= 2
    assert not allowed & roles


DEEP: dict[str, Any] = {"type": "string"}
for _ in range(300):
    DEEP = {"type": "object", "properties": {"a": DEEP}}
BAD = [
    Guide("regex", "("),
    Guide("regex", "(?=a)b"),
    Guide("regex", "(a{1000}){1000}"),
    Guide("grammar", "start: missing"),
    Guide("grammar", ""),
    Guide("grammar", 'root ::= "a"'),
    schema({"type": "nope"}),
    schema({"not": {"type": "string"}}),
    schema({"$ref": "https://evil.example/schema.json"}),
    schema({"type": "string", "pattern": "("}),
    schema(DEEP),
    schema({"allOf": [{"anyOf": [{"properties": {f"k{i}{j}": {}}} for j in range(4)]} for i in range(12)]}),
    schema({"enum": ["long" * 10] * 3000}),
    schema(3),
    Guide("json_schema", "{"),
    Guide("json_schema", "[" * 50_000),
]


@pytest.mark.parametrize("guide", BAD, ids=lambda guide: f"{guide.kind} {guide.text[:20]}")
def test_bad_guides_are_refused_at_once(model: Model, guide: Guide) -> None:
    start = time.process_time()
    with pytest.raises(UserError, match=r"JSON schema|regular expression|Lark grammar"):
        model.ask(guide, 0, tokens=5)
    assert time.process_time() - start < 1.0


def test_check_needs_no_model() -> None:
    for guide in (schema(PERSON), schema(True), Guide("regex", "a+"), Guide("grammar", 'start: "a"')):
        guides.check(guide)
    for guide in BAD:
        if guide.text != "(a{1000}){1000}":  # too much work only once it is tried
            with pytest.raises(UserError):
                guides.check(guide)
