"""Answers in a given form: a JSON schema, a regular expression or a Lark grammar, through llguidance.

Before every draw it tells which tokens keep the text a beginning of the form, by the bytes that each token stands
for; end tokens are among them only where the text is complete. Spaces in JSON are fixed, `", "` and `": "`, so that
no model can fill its answer with blanks.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import llguidance
import numpy as np

from phi3tune.engines.base import Guide
from phi3tune.errors import UserError

if TYPE_CHECKING:
    from phi3tune.chat import Renderer

_LONGEST = 65_536  # characters of a guide
_SPACES = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_NAMES = {"json_schema": "JSON schema", "regex": "regular expression", "grammar": "Lark grammar"}
_PROBE = "a"


def check(guide: Guide) -> None:
    """Raise `UserError` when a guide is malformed, too large, or uses what llguidance does not know."""
    grammar = _grammar(guide, leading_space=False)
    failed, messages = llguidance.LLMatcher.validate_grammar_with_warnings(grammar, limits=_limits())
    if failed:
        raise _refused(guide, messages[0])


class Guides:
    """The forms that one model's answers can be held to."""

    def __init__(self, folder: Path, renderer: Renderer, vocab_size: int) -> None:
        self._file = folder / "tokenizer.json"
        self._renderer, self._vocab_size = renderer, vocab_size

    def start(self, guide: Guide | None) -> Matcher | None:
        """For one answer; None without a guide. Raises `UserError` as `check` does."""
        if guide is None:
            return None
        ends = tuple(sorted(self._renderer.end_ids))
        tokenizer = _tokenizer(self._file, self._file.stat().st_mtime_ns, self._vocab_size, ends)
        # A sentencepiece tokenizer writes a space before the first word, which is no part of the text.
        first = self._renderer.encode(_PROBE)
        hidden = tokenizer.decode_str(first) == f" {self._renderer.decode(first)}"
        matcher = llguidance.LLMatcher(tokenizer, _grammar(guide, leading_space=hidden), log_level=0, limits=_limits())
        if matcher.is_error():
            raise _refused(guide, matcher.get_error())
        return Matcher(matcher, guide)


class Matcher:
    """How far one answer is in its form."""

    def __init__(self, matcher: Any, guide: Guide) -> None:
        self._matcher, self._guide = matcher, guide

    @property
    def complete(self) -> bool:
        """Whether nothing but an end token may follow."""
        return bool(self._matcher.is_stopped())

    def allowed(self, vocab_size: int) -> np.ndarray:
        """Which tokens may come next, bool [V]. `UserError` when the form is too much work at this place."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        self._check()
        return np.unpackbits(bits, bitorder="little", count=vocab_size).view(np.bool_)

    def take(self, token_id: int) -> None:
        """Go on by an allowed token."""
        self._matcher.consume_token(token_id)
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise _refused(self._guide, self._matcher.get_error())


@lru_cache(maxsize=4)
def _tokenizer(file: Path, _changed: int, vocab_size: int, ends: tuple[int, ...]) -> Any:
    return llguidance.LLTokenizer(file.read_text(encoding="utf-8"), n_vocab=vocab_size, eos_token=list(ends))


def _grammar(guide: Guide, *, leading_space: bool) -> str:
    """The guide in llguidance's own form."""
    if len(guide.text) > _LONGEST:
        raise UserError(f"the {_NAMES[guide.kind]} has {len(guide.text)} characters; at most {_LONGEST} are accepted")
    answer: dict[str, Any] = {"name": "answer"}
    if guide.kind == "json_schema":
        answer["json_schema"] = _schema(guide)
    elif guide.kind == "regex":
        (quoted,) = json.loads(llguidance.LLMatcher.grammar_from_regex(guide.text))["grammars"]
        answer["lark_grammar"] = quoted["lark_grammar"]
    else:
        answer["lark_grammar"] = guide.text
    space = '" "? ' if leading_space else ""
    return json.dumps({"grammars": [{"lark_grammar": f"start: {space}@answer"}, answer]})


def _schema(guide: Guide) -> Any:
    try:
        schema = json.loads(guide.text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"the JSON schema cannot be read as JSON: {error}; correct it") from None
    if isinstance(schema, dict):
        return {**schema, "x-guidance": _SPACES}
    if isinstance(schema, bool):
        return schema
    raise UserError("the JSON schema must be a JSON object")


def _limits() -> Any:
    return llguidance.LLParserLimits(initial_lexer_fuel=200_000, max_grammar_size=100_000)


def _refused(guide: Guide, problem: str) -> UserError:
    return UserError(f"the {_NAMES[guide.kind]} is not accepted: {' '.join(problem.split())[:200]}; change it")
