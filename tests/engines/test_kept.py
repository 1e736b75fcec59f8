"""Which chats are kept, and which one a prompt goes on with."""

from __future__ import annotations

import pytest

from phi3tune.chat import Message, Renderer
from phi3tune.engines.base import Request, Sampling, never
from phi3tune.engines.decoding import Answer, Context
from phi3tune.engines.kept import MOST, Kept
from phi3tune.paths import NANO
from tests.engines.test_decoding import RandomContext

SYSTEM: Message = {"role": "system", "content": "Answer briefly, kindly, and in whole sentences; say so if unsure."}


class Shop:
    """A `Kept` over random contexts, asked by chats of plain strings: user, assistant, user, ..."""

    def __init__(self, memory: int = 10**9) -> None:
        self.renderer = Renderer.load(NANO)
        self.made: list[Context] = []
        self.kept = Kept(self.renderer, self._make, token_bytes=1, memory=memory)

    def _make(self, adapter: str | None, total: int) -> Context:
        self.made.append(RandomContext(capacity=max(total, 100)))
        return self.made[-1]

    def cached(self, *said: str, adapter: str | None = None, tokens: int = 4, owner: str = "") -> int:
        """Tokens of the prompt that were not read again."""
        messages = [SYSTEM]
        for place, text in enumerate(said):
            messages.append({"role": "assistant" if place % 2 else "user", "content": text})
        request = Request(self.renderer.prompt(messages), Sampling(tokens), owner=owner)
        answer = Answer(request, self.renderer, tokens)
        (*_, last) = self.kept.steps(adapter, request, answer, tokens, never)
        assert last is not None
        assert last.usage is not None
        return last.usage.cached_tokens


def length(shop: Shop, *said: str) -> int:
    return len(shop.renderer.prompt([SYSTEM, *({"role": "user", "content": text} for text in said)]))


def test_a_chat_goes_on_where_it_was() -> None:
    shop = Shop()
    first = length(shop, "How are you?")
    assert shop.cached("How are you?") == 0
    assert shop.cached("How are you?") == first - 1, "regenerate"
    assert shop.cached("How are you?", "Well.", "And yesterday?") >= first - 1
    assert shop.cached("How are you?", "Well.", "And tomorrow?") > first, "edit"
    assert len(shop.made) == 1


def test_chats_with_one_instruction_do_not_push_each_other_out() -> None:
    shop = Shop()
    for user in ("ada", "ben", "cleo"):
        assert shop.cached(f"I am {user}.") == 0
    for user in ("ada", "ben", "cleo"):
        assert shop.cached(f"I am {user}.", "Hello.", "And you?") >= length(shop, f"I am {user}.") - 1
    assert len(shop.made) == 3


def test_adapters_do_not_share() -> None:
    shop = Shop()
    assert shop.cached("Hello") == 0
    assert shop.cached("Hello", adapter="a") == 0
    assert shop.cached("Hello", adapter="a") > 0
    shop.kept.forget("a")
    assert shop.cached("Hello", adapter="a") == 0
    assert shop.cached("Hello") > 0


def test_nobody_goes_on_with_the_chat_of_somebody_else() -> None:
    """How fast an answer comes would tell what others have said."""
    shop = Shop()
    assert shop.cached("Hello", owner="a") == 0
    assert shop.cached("Hello", owner="b") == 0
    assert shop.cached("Hello") == 0
    assert shop.cached("Hello", owner="a") > 0


def test_the_chat_that_was_idle_longest_makes_room() -> None:
    shop = Shop(memory=4 * 200)  # of which a fourth may be used: two chats of 77 tokens
    for name in ("ada", "ben"):
        shop.cached(name, tokens=50)
    assert shop.cached("ada", tokens=50) > 0
    assert shop.cached("cleo", tokens=50) == 0
    assert shop.cached("ada", tokens=50) > 0
    assert shop.cached("ben", tokens=50) == 0


def test_there_are_never_more_than_so_many() -> None:
    shop = Shop()
    for number in range(MOST + 1):
        shop.cached(f"chat {number}")
    assert shop.cached(f"chat {MOST}") > 0
    assert shop.cached("chat 0") == 0


def test_a_chat_that_outgrew_its_place_leaves_it() -> None:
    shop = Shop()
    shop.cached("Hello")
    assert shop.cached("Hello", tokens=200) == 0
    assert shop.cached("Hello") > 0
    assert len(shop.made) == 2


def test_answers_under_way_have_contexts_of_their_own() -> None:
    shop = Shop(memory=4 * 200)
    request = Request(shop.renderer.prompt([SYSTEM, {"role": "user", "content": "Hello"}]), Sampling(50))
    total = len(request.prompt_ids) + 50
    assert shop.kept.room(10**6), "one answer is always worked on"
    running = [shop.kept.steps(None, request, Answer(request, shop.renderer, 50), 50, never) for _ in range(2)]
    next(running[0])
    assert shop.kept.room(total)
    next(running[1])
    assert not shop.kept.room(total)
    assert len(shop.made) == 2
    for steps in running:
        assert list(steps)[-1] is not None
    assert shop.kept.room(total)


def test_what_failed_half_way_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop()
    shop.cached("Hello")
    monkeypatch.setattr(shop.made[0], "_append", lambda ids: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        shop.cached("Hello", "Hi.", "How are you?")
    assert shop.cached("Hello") == 0
