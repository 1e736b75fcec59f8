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
from typing import Any, TypeAlias

import numpy as np
import onnxruntime_genai as og

sys.path.insert(0, str(Path(__file__).parents[1]))

from phi3tune.engines.base import Request, Sampling
from phi3tune.engines.genai import GenaiEngine
from phi3tune.paths import NANO

PROMPT, TOKENS = 32, 64
Figures: TypeAlias = tuple[float, float, float, list[int]]


def bare(model: Any, prompt: list[int]) -> Figures:
    """Of the runtime's own loop: seconds to the first token, for each token after it, and of processor time for each
    of those; and the tokens."""
    start = time.perf_counter()
    params = og.GeneratorParams(model)
    params.set_search_options(do_sample=False, max_length=PROMPT + TOKENS)
    generator = og.Generator(model, params)
    generator.append_tokens(np.array(prompt, np.int32))
    generator.generate_next_token()
    said = [int(generator.get_next_tokens()[0])]
    first, work = time.perf_counter(), time.process_time()
    while not generator.is_done():
        generator.generate_next_token()
        said.append(int(generator.get_next_tokens()[0]))
    each, work = time.perf_counter() - first, time.process_time() - work
    return first - start, each / (TOKENS - 1), work / (TOKENS - 1), said


def ours(engine: GenaiEngine, prompt: list[int]) -> Figures:
    """The same of the engine, which starts a new chat."""
    engine.kept.clear()
    start = time.perf_counter()
    stream = engine.stream(Request(prompt, Sampling(TOKENS)))
    said = list(next(stream).token_ids)
    first, work = time.perf_counter(), time.process_time()
    for chunk in stream:
        said += chunk.token_ids
    each, work = time.perf_counter() - first, time.process_time() - work
    return first - start, each / (TOKENS - 1), work / (TOKENS - 1), said


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
    loops: dict[str, Callable[[list[int]], Figures]] = {
        "bare": lambda prompt: bare(engine._model, prompt),
        "ours": lambda prompt: ours(engine, prompt),
    }
    figures: dict[str, list[tuple[float, float, float]]] = {name: [] for name in loops}
    random = np.random.default_rng(0)
    while len(figures["ours"]) < rounds:
        prompt = random.integers(100, engine.info.vocab_size - 100, PROMPT).tolist()
        results = {name: loop(prompt) for name, loop in loops.items()}
        if results["ours"][3] != results["bare"][3]:
            raise SystemExit("the two loops say different things")
        for name, result in results.items():
            figures[name].append(result[:3])
    first, each, work = ({name: [row[place] for row in rows] for name, rows in figures.items()} for place in range(3))
    added = (median(a / b for a, b in zip(of["ours"], of["bare"], strict=True)) - 1 for of in (each, work))
    print(
        f"| {label} | {1 / median(each['bare']):.0f} | {1 / median(each['ours']):.0f} | "
        f"{' | '.join(f'{share:+.1%}' for share in added)} "
        f"| {1000 * median(first['bare']):.1f} | {1000 * median(first['ours']):.1f} |"
    )


def main() -> None:
    named = [Path(argument) for argument in sys.argv[1:] if not argument.isdigit()]
    rounds = next((int(argument) for argument in sys.argv[1:] if argument.isdigit()), 30)
    print("| model | bare tok/s | engine tok/s | added time | added processor time | first ms, bare | engine |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for build in named:
        compare(build, rounds, build.name)
    if named:
        return
    from phi3tune.export import onnx
    from tests.fakes import tiny_phi3

    with tempfile.TemporaryDirectory() as name:
        sizes: dict[str, Any] = {
            "hidden_size": 1024,
            "intermediate_size": 2816,
            "num_attention_heads": 16,
            "num_key_value_heads": 16,
        }
        wide = tiny_phi3(Path(name) / "source", **sizes)
        for label, source in (("phi3-nano", NANO), ("random, 1024 wide", wide)):
            build = Path(name) / label / "int4"
            build.mkdir(parents=True)
            onnx.build(source, build, precision="int4", scratch=Path(name))
            compare(build, rounds, label)


if __name__ == "__main__":
    main()
