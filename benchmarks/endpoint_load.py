"""The endpoint under load: phi3-nano at int4, prompts and answers of 32 tokens, on all cores of this machine.

    python -m benchmarks.endpoint_load [--build FOLDER] [--seconds 20] [--rounds 3] [--requests 10000]

Bare loop: onnxruntime-genai's own generate_next_token in a process of its own, greedy, with as many threads as cores.
phi3-nano's answers are shorter than 32 tokens: here min_length, there logit_bias keeps it from its end tokens, which
takes the endpoint off its quickest way of drawing.
Users: threads of this process, each with one connection, that ask again as soon as they have their answer. Tokens per
second are those of answers by the wall clock, prefill included; bare loop and one user take turns, so that a machine
that slows down favours neither. Surplus: 32 users who ask at the same moment, of an endpoint with a queue of 16.
Memory: resident bytes and open files of the server and its engine, behind a warm-up and behind the last request.

Limits: one user 90 % of the bare loop, 8 users 80 % of that with the fastest at most twice the slowest, the surplus
refused within 100 ms, memory at most 20 MB more and not one file.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from phi3tune import system
from phi3tune.chat import Renderer
from phi3tune.paths import NANO

TOKENS = 32
QUEUE = 16
PROMPTS = 64  # more than the engine keeps chats of: no prompt is ever found read already


def build(folder: Path) -> Path:
    """The int4 build of phi3-nano, in a workspace of its own."""
    environment = {**os.environ, "PHI3TUNE_HOME": str(folder)}
    command = [sys.executable, "-m", "phi3tune", "export", "phi3-nano", "--precision", "int4", "--json"]
    # Whether it passes its check matters to nobody here: the same build answers on both sides.
    told = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=False).stdout
    return Path(json.loads(told)["path"])


def prompts() -> list[list[int]]:
    """Prompts of 32 tokens, as ids, out of phi3-nano's questions."""
    renderer = Renderer.load(NANO)
    lines = (NANO / "skills" / "test.jsonl").read_text().splitlines()
    ids = [token for line in lines for token in renderer.encode(json.loads(line)["messages"][0]["content"])]
    starts = range(0, len(ids) - TOKENS, (len(ids) - TOKENS) // PROMPTS)
    return [ids[start : start + TOKENS] for start in starts][:PROMPTS]


def answer(model: Any, ids: list[int]) -> list[int]:
    """The greedy answer of the bare loop, of 32 tokens."""
    import onnxruntime_genai as og

    params = og.GeneratorParams(model)
    params.set_search_options(do_sample=False, min_length=len(ids) + TOKENS, max_length=len(ids) + TOKENS)
    generator = og.Generator(model, params)
    generator.append_tokens(ids)
    while not generator.is_done():
        generator.generate_next_token()
    return list(generator.get_sequence(0))[len(ids) :]


def bare(build: Path, seconds: float) -> None:
    """In a process of its own: print tokens per second of the bare loop."""
    import onnxruntime_genai as og

    config = og.Config(str(build))
    threads = {"model": {"decoder": {"session_options": {"intra_op_num_threads": system.cores()}}}}
    config.overlay(json.dumps(threads))
    model = og.Model(config)
    asked = prompts()
    answer(model, asked[0])
    tokens, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        for ids in asked:
            tokens += len(answer(model, ids))
    print(tokens / (time.perf_counter() - began))


class User:
    """One connection that asks."""

    def __init__(self, url: str, name: str) -> None:
        self._connection = http.client.HTTPConnection(url.removeprefix("http://").removesuffix("/v1"), timeout=120)
        self._name = name
        self.tokens, self.speed = 0, 0.0
        self.failed = 0

    def ask(self, prompt: list[int], tokens: int = TOKENS) -> tuple[int, float]:
        """Status and seconds of one request."""
        bias = {str(token): -100 for token in Renderer.load(NANO).end_ids}
        body = {"model": self._name, "prompt": prompt, "temperature": 0, "max_tokens": tokens, "logit_bias": bias}
        began = time.perf_counter()
        self._connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        told = json.loads(response.read())
        seconds = time.perf_counter() - began
        if response.status == 200:
            self.tokens += told["usage"]["completion_tokens"]
        else:
            self.failed += 1
        return response.status, seconds

    def close(self) -> None:
        self._connection.close()

    def ask_until(self, end: float, asked: list[list[int]], first: int) -> None:
        number = first
        while time.perf_counter() < end:
            self.ask(asked[number % len(asked)])
            number += 1
        self.close()


def load(url: str, name: str, users: int, seconds: float, asked: list[list[int]]) -> list[User]:
    """`users` who ask for that long, all at once; their tokens per second are by the time until the last has ended."""
    asking = [User(url, name) for _ in range(users)]
    began = time.perf_counter()
    end = began + seconds
    threads = [
        threading.Thread(target=user.ask_until, args=(end, asked, number * len(asked) // users))
        for number, user in enumerate(asking)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    for user in asking:
        user.speed = user.tokens / took
    return asking


def surplus(url: str, name: str, users: int, asked: list[list[int]]) -> list[tuple[int, float]]:
    """Status and seconds of requests that `users` send at the same moment."""
    ready = threading.Barrier(users)
    answers: list[tuple[int, float]] = []

    def ask(number: int) -> None:
        user = User(url, name)
        user._connection.connect()
        ready.wait()
        answers.append(user.ask(asked[number % len(asked)]))
        user.close()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(users)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def soak(url: str, name: str, requests: int, tokens: int, asked: list[list[int]], process: psutil.Process) -> list[int]:
    """Bytes and files at the beginning and at the end of that many requests of 4 users, an eighth of them before."""
    figures: list[int] = []
    for count in (requests // 8, requests):
        users = [User(url, name) for _ in range(4)]

        def ask(user: User, count: int = count) -> None:
            for number in range(count // 4):
                user.ask(asked[number % len(asked)], tokens)

        threads = [threading.Thread(target=ask, args=(user,)) for user in users]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not any(user.failed for user in users)
        for user in users:
            user.close()
        family = [process, *process.children(recursive=True)]
        figures += [sum(each.memory_info().rss for each in family), sum(each.num_fds() for each in family)]
    return figures


@contextmanager
def serving(build: Path) -> Iterator[tuple[str, str, psutil.Process]]:
    """`phi3tune serve` in a process of its own: url, name of the model, process."""
    command = [sys.executable, "-m", "phi3tune", "serve", str(build), "--queue-size", str(QUEUE), "--json"]
    process = subprocess.Popen([*command, "--port", "18765"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        yield told["url"], told["models"][0], psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--request-tokens", type=int, default=TOKENS, help="of each answer of those requests")
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.bare:
        bare(given.build, given.seconds)
        return
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["PHI3TUNE_HOME"] = scratch
        measure((given.build or build(Path(scratch))).absolute(), given)


def measure(folder: Path, given: argparse.Namespace) -> None:
    asked = prompts()
    command = [sys.executable, "-m", "benchmarks.endpoint_load", "--build", str(folder), "--bare"]
    command += ["--seconds", str(given.seconds)]
    bares, singles, totals, fairness, failed = [], [], [], [], 0
    with serving(folder) as (url, name, process):
        load(url, name, 1, 2.0, asked)
        for _ in range(given.rounds):
            bares.append(float(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout))
            [one] = load(url, name, 1, given.seconds, asked)
            singles.append(one.speed)
            eight = load(url, name, 8, given.seconds, asked)
            totals.append(sum(user.speed for user in eight))
            fairness.append(max(user.tokens for user in eight) / max(1, min(user.tokens for user in eight)))
            failed += sum(user.failed for user in eight)
        refused = [seconds for _ in range(5) for status, seconds in surplus(url, name, 32, asked) if status == 429]
        before, files_before, after, files_after = soak(url, name, given.requests, given.request_tokens, asked, process)
    print(f"{system.cores()} cores, {given.rounds} rounds of {given.seconds:g} s, medians\n")
    print("| what | figure | limit |\n|---|---:|---:|")
    print(f"| bare loop, tok/s | {median(bares):,.0f} | |")
    share = median(one / other for one, other in zip(singles, bares, strict=True))
    print(f"| one user, tok/s | {median(singles):,.0f} = {share:.0%} | 90 % |")
    share = median(one / other for one, other in zip(totals, singles, strict=True))
    print(f"| 8 users together, tok/s | {median(totals):,.0f} = {share:.0%} of one | 80 % |")
    print(f"| fastest to slowest of 8 | {median(fairness):.2f} | 2 |")
    print(f"| errors of 8 users | {failed} | 0 |")
    slowest = f"{max(refused) * 1000:.0f} ms at most, {median(refused) * 1000:.0f} in the middle" if refused else "none"
    print(f"| refused of 5 times 32 users | {len(refused)}: {slowest} | 100 ms |")
    print(f"| memory after {given.requests:,} requests | {(after - before) / 1e6:+.1f} MB | +20 MB |")
    print(f"| open files | {files_before} to {files_after} | the same |")


if __name__ == "__main__":
    main()
