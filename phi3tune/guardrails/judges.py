"""Guards that judge a text as a whole: one of our classifiers, or a moderation endpoint."""

from __future__ import annotations

import hashlib
import os
import threading
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Collection
from typing import TYPE_CHECKING

from phi3tune.errors import UserError
from phi3tune.guardrails.check import CheckError, TextCheck

if TYPE_CHECKING:
    from phi3tune.engines.models import ModelRef
    from phi3tune.engines.pool import Pool

_REMEMBERED = 4096


class _Remembering(TextCheck):
    """A chat sends its history with every question: what was judged once is not judged again. Keeps hashes, no text."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, str | None] = OrderedDict()
        self._lock = threading.Lock()

    def judge(self, text: str) -> str | None:
        if not text.strip():
            return None
        key = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        found = self._judge(text)
        with self._lock:
            self._known[key] = found
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return found

    @abstractmethod
    def _judge(self, text: str) -> str | None:
        """`judge` of a text that is not known. Raises `CheckError`."""


class ClassifierCheck(_Remembering):
    """Texts that a classifier gives one of some labels, with at least a probability of `threshold`."""

    def __init__(self, ref: ModelRef, labels: Collection[str], threshold: float, pool: Pool) -> None:
        super().__init__()
        self._ref, self._labels, self._threshold, self._pool = ref, frozenset(labels), threshold, pool

    def _judge(self, text: str) -> str | None:
        try:
            [found] = self._pool.classify(self._ref, [text])
        except UserError as error:
            raise CheckError(str(error)) from None
        if found["truncated"]:
            raise CheckError(f"the text is longer than the context of {self._ref.label}")
        scores = {label: score for label, score in found["scores"].items() if label in self._labels}
        label = max(scores, key=lambda name: scores[name])
        return label if scores[label] >= self._threshold else None


class ModerationCheck(_Remembering):
    """Texts that an OpenAI-compatible moderation endpoint flags, in some categories or in any when none are named.

    The key comes from the environment variable `key_variable` and is kept nowhere else. Redirects are not followed:
    they would take the texts to another place.
    """

    def __init__(
        self, url: str, *, model: str | None, categories: Collection[str], key_variable: str, seconds: float
    ) -> None:
        super().__init__()
        import openai

        self._url, self._categories = url, frozenset(categories)
        self._model = openai.omit if model is None else model
        self._client = openai.OpenAI(
            base_url=url,
            api_key=os.environ.get(key_variable) or "none",  # servers of one's own take any key
            max_retries=1,
            http_client=openai.DefaultHttpxClient(follow_redirects=False, timeout=seconds),
        )

    def _judge(self, text: str) -> str | None:
        import openai

        try:
            # As plain JSON: the client makes its objects of anything that an address may answer.
            response = self._client.moderations.with_raw_response.create(input=text, model=self._model)
            results = response.http_response.json()["results"]
            flagged = [each for each in results if each["flagged"]]
            names = {str(name) for each in flagged for name, on in each.get("categories", {}).items() if on}
        except openai.APIStatusError as error:
            raise CheckError(f"{self._url} answered with status {error.status_code}") from None
        except openai.OpenAIError as error:
            raise CheckError(f"{self._url} cannot be asked ({type(error).__name__})") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise CheckError(f"{self._url} does not answer as OpenAI's moderations do") from None
        if self._categories:
            names &= self._categories
            return ", ".join(sorted(names)) or None
        return (", ".join(sorted(names)) or "flagged") if flagged else None
