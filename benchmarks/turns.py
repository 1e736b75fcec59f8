"""What a further turn costs: seconds to the first token of every turn of a chat, through the pool as users meet it.

    python benchmarks/turns.py [MODEL] [chats]

Every message of a chat has the same size. MODEL is what `phi3tune chat` takes; phi3-nano and an int4 build of it,
made here, when none is named. Aim: turn 10 at most 1.5 times turn 1. Beside it: the same with a second chat going on
in between, and turn 10 asked again (regenerate).
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

from phi3tune.chat import Message, Renderer
from phi3tune.engines.base import Request, Sampling, Usage, collect
from phi3tune.engines.models import ModelRef, resolve
from phi3tune.engines.pool import Pool
from phi3tune.paths import NANO, Workspace

TURNS = 10
WORDS = ["small", "lamp", "boat", "river", "stone", "garden", "cloud", "winter", "music", "letter", "window", "bread"]


class Chat:
    """One user's chat, whose messages have twelve words."""

    def __init__(self, pool: Pool, ref: ModelRef, number: int) -> None:
        self._pool, self._ref, self._renderer = pool, ref, Renderer.load(ref.tokenizer)
        self._said: list[Message] = []
        self._number = number

    def turn(self) -> Usage:
        place = (self._number + len(self._said)) % len(WORDS)
        self._said.append({"role": "user", "content": " ".join([*WORDS[place:], *WORDS[:place]])})
        return self.again()

    def again(self) -> Usage:
        if self._said[-1]["role"] == "assistant":
            self._said.pop()
        answer = collect(self._pool.stream(self._ref, Request(self._renderer.prompt(self._said), Sampling(32))))
        self._said.append({"role": "assistant", "content": answer.text or "-"})
        return answer.usage


def compare(pool: Pool, ref: ModelRef, label: str, chats: int) -> None:
    pool.info(ref)
    Chat(pool, ref, 0).turn()  # the first answer of a process warms it up
    firsts: list[list[float]] = [[] for _ in range(TURNS)]
    again, cached = [], []
    for number in range(chats):
        ours, other = Chat(pool, ref, 2 * number + 1), Chat(pool, ref, 2 * number + 2)
        for turn in range(TURNS):
            usage = ours.turn()
            firsts[turn].append(usage.first_token_seconds)
            other.turn()
        cached.append(usage.cached_tokens / usage.prompt_tokens)
        again.append(ours.again().first_token_seconds)
    middle = [1000 * median(seconds) for seconds in firsts]
    ratio = median(last / first for first, last in zip(firsts[0], firsts[-1], strict=True))
    told = " ".join(f"{value:.1f}" for value in middle)
    print(f"| {label} | {told} | {ratio:.2f} | {median(cached):.0%} | {1000 * median(again):.1f} |", flush=True)


def main() -> None:
    named = [argument for argument in sys.argv[1:] if not argument.isdigit()]
    chats = next((int(argument) for argument in sys.argv[1:] if argument.isdigit()), 10)
    print(f"| model | first token of turns 1 to {TURNS}, ms | turn {TURNS} / turn 1 | kept of it | again, ms |")
    print("|---|---|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as name:
        pool = Pool()
        try:
            for model in named:
                compare(pool, resolve(model, Workspace.current()), model, chats)
            if not named:
                from phi3tune.export import onnx

                build = Path(name) / "int4"
                build.mkdir()
                onnx.build(NANO, build, precision="int4", scratch=Path(name))
                int4 = ModelRef(str(build), "int4", "onnxruntime-genai", build)
                compare(pool, int4, "phi3-nano, int4", chats)
                compare(pool, ModelRef("phi3-nano", "phi3-nano", "torch", NANO), "phi3-nano, torch", chats)
        finally:
            pool.close()


if __name__ == "__main__":
    main()
