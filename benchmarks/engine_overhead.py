"""What the engine adds to a bare onnxruntime-genai loop, in one process: medians of alternating rounds.

    python benchmarks/engine_overhead.py [BUILD] [rounds]

BUILD is a folder with an onnxruntime-genai build; phi3-nano and a random model with a hidden size of 1024 and the
vocabulary of Phi-3-mini are built as int4 when none is named. Aim: at most 5 % for each token, greedy.
Both loops have the same number of threads.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnxruntime_genai as og

sys.path.insert(0, str(Path(__file__).parents[1]))

from phi3tune.engines.base import Request, Sampling
from phi3tune.engines.genai import GenaiEngine
from phi3tune.paths import NANO

PROMPT, TOKENS = 32, 64


def bare(model: Any, prompt: list[int]) -> tuple[float, float, list[int]]:
    """Seconds to the first token and for each token after it, and the tokens, of the runtime's own loop."""
    start = time.perf_counter()
    params = og.GeneratorParams(model)
    params.set_search_options(do_sample=False, max_length=PROMPT + TOKENS)
    generator = og.Generator(model, params)
    generator.append_tokens(np.array(prompt, np.int32))
    generator.generate_next_token()
    said = [int(generator.get_next_tokens()[0])]
    first = time.perf_counter()
    while not generator.is_done():
        generator.generate_next_token()
        said.append(int(generator.get_next_tokens()[0]))
    return first - start, (time.perf_counter() - first) / (len(said) - 1), said


def ours(engine: GenaiEngine, prompt: list[int]) -> tuple[float, float, list[int]]:
    """The same of the engine, which starts a new chat."""
    engine.kept.clear()
    start = time.perf_counter()
    stream = engine.stream(Request(prompt, Sampling(TOKENS)))
    said = list(next(stream).token_ids)
    first = time.perf_counter()
    for chunk in stream:
        said += chunk.token_ids
    return first - start, (time.perf_counter() - first) / (len(said) - 1), said


def endless(build: Path, folder: Path) -> GenaiEngine:
    """The engine of a copy of a build that knows no end token, so that every answer is equally long."""
    copy = shutil.copytree(build, folder / build.name)
    config = json.loads((copy / "genai_config.json").read_text())
    config["model"]["eos_token_id"] = [config["model"]["vocab_size"] - 1]
    (copy / "genai_config.json").write_text(json.dumps(config))
    engine = GenaiEngine(copy)
    engine.renderer.end_ids = frozenset()
    return engine


def compare(build: Path, rounds: int, label: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        _compare(endless(build, Path(folder)), rounds, label)


def _compare(engine: GenaiEngine, rounds: int, label: str) -> None:
    loops: dict[str, Callable[[list[int]], tuple[float, float, list[int]]]] = {
        "bare": lambda prompt: bare(engine._model, prompt),
        "ours": lambda prompt: ours(engine, prompt),
    }
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in loops}
    random = np.random.default_rng(0)
    while len(figures["ours"]) < rounds:
        prompt = random.integers(100, engine.info.vocab_size - 100, PROMPT).tolist()
        results = {name: loop(prompt) for name, loop in loops.items()}
        if results["ours"][2] != results["bare"][2]:
            raise SystemExit("the two loops say different things")
        for name, (first, each, _) in results.items():
            figures[name].append((first, each))
    firsts, eaches = ({name: [pair[place] for pair in pairs] for name, pairs in figures.items()} for place in (0, 1))
    added = median(a / b for a, b in zip(eaches["ours"], eaches["bare"], strict=True)) - 1
    best = min(eaches["ours"]) / min(eaches["bare"]) - 1
    print(
        f"| {label} | {1 / median(eaches['bare']):.0f} | {1 / median(eaches['ours']):.0f} | {added:+.1%} "
        f"| {best:+.1%} | {1000 * median(firsts['bare']):.1f} | {1000 * median(firsts['ours']):.1f} |"
    )


def main() -> None:
    named = [Path(argument) for argument in sys.argv[1:] if not argument.isdigit()]
    rounds = next((int(argument) for argument in sys.argv[1:] if argument.isdigit()), 30)
    print("| model | bare tok/s | engine tok/s | added, median of pairs | of the best | first ms, bare | engine |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for build in named:
        compare(build, rounds, build.name)
    if named:
        return
    from phi3tune.export import onnx
    from tests.fakes import tiny_phi3

    with tempfile.TemporaryDirectory() as name:
        sizes = {"hidden_size": 1024, "intermediate_size": 2816, "num_attention_heads": 16, "num_key_value_heads": 16}
        wide = tiny_phi3(Path(name) / "source", **sizes)
        for label, source in (("phi3-nano", NANO), ("random, 1024 wide", wide)):
            build = Path(name) / label / "int4"
            build.mkdir(parents=True)
            onnx.build(source, build, precision="int4", scratch=Path(name))
            compare(build, rounds, label)


if __name__ == "__main__":
    main()
