"""Size, load time, speed and peak memory of a build, measured in a process that holds nothing else."""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phi3tune import system
from phi3tune.engines.base import EngineError, Request, Sampling, Usage
from phi3tune.events import Phase, Reporter

if TYPE_CHECKING:
    from phi3tune.engines.base import Engine
    from phi3tune.engines.models import ModelRef

PROMPT_TOKENS = 256
ANSWER_TOKENS = 64
_PROMPTS = 4
_UNCACHED_TOKENS = 8
_SECONDS = 60.0  # after which no further answer is begun, and the one at hand is cut
_LOOK = 0.2


def measure(ref: ModelRef, reporter: Reporter, threads: int | None) -> dict[str, Any] | None:
    """Figures of one build on this machine; None when the user stopped the job.

    size_bytes                  its weights on disk
    load_seconds                from files that the system has just read, imports left out
    prefill_tokens_per_second   of prompts of up to 256 random tokens, the first token of the answer included
    decode_tokens_per_second    after that token, up to 64 tokens, or 8 without a cache; None for a classifier
    peak_memory_bytes           of the process, the runtime and the mapped weights included

    Raises `EngineError` when the process ended without them.
    """
    reporter.emit(Phase(name="measuring the build"))
    folder, adapter = str(ref.base), str(ref.adapter or "")
    argv = [sys.executable, "-m", "phi3tune.export.measure", folder, "--adapter", adapter, "--task", ref.task]
    argv += ["--threads", str(threads or system.cores())]
    process = system.start_process(argv, output=subprocess.PIPE, errors=subprocess.PIPE)
    try:
        while True:
            try:
                said, errors = process.communicate(timeout=_LOOK)
                break
            except subprocess.TimeoutExpired:
                if reporter.stop_requested():
                    return None
    finally:
        if process.poll() is None:
            system.kill_group(process.pid)
            process.communicate()
    if process.returncode:
        last = errors.decode(errors="replace").strip().rpartition("\n")[2][:300]
        raise EngineError(
            f"{ref.label} could not be measured: {last or f'its process ended with {process.returncode}'}"
        )
    figures: dict[str, Any] = json.loads(said)
    return figures


def figures(ref: ModelRef, threads: int) -> dict[str, Any]:
    """The same, measured in this process."""
    from phi3tune.engines import open_engine

    began = time.perf_counter()
    engine = open_engine(ref, threads=threads)
    load = time.perf_counter() - began
    try:
        speeds = _rows(engine) if ref.task == "classification" else _answers(engine)
        return {
            "size_bytes": engine.info.size_bytes,
            "load_seconds": load,
            **speeds,
            "peak_memory_bytes": system.peak_memory(),
            "threads": threads,
        }
    finally:
        engine.close()


def _answers(engine: Engine) -> dict[str, Any]:
    """Several greedy answers to random tokens, which no cache knows and few models end early."""
    deadline = time.monotonic() + _SECONDS
    length = max(1, min(PROMPT_TOKENS, engine.info.context_length // 2))
    # Without a cache, every token of an answer costs a pass over all before it: a few tell the speed.
    cached = engine.info.kind != "onnxruntime"
    limit = min(ANSWER_TOKENS if cached else _UNCACHED_TOKENS, engine.info.context_length - length)
    usages: list[tuple[Usage, str]] = []
    for prompt in _prompts(engine, length)[: None if cached else 2]:
        request = Request(prompt, Sampling(max_new_tokens=limit))
        for chunk in engine.stream(request, lambda: bool(usages) and time.monotonic() > deadline):
            if chunk.usage is not None and chunk.usage.first_token_seconds > 0:
                usages.append((chunk.usage, str(chunk.finish_reason)))
        if time.monotonic() > deadline:
            break
    # The first answer also pays for what the runtime prepares once.
    counted = usages[1:] or usages
    prefill = sum(usage.first_token_seconds for usage, _ in counted)
    steps = [usage.completion_tokens - (reason != "stop") for usage, reason in counted]
    rates = [usage.tokens_per_second for usage, _ in counted]
    timed = [(step, step / rate) for step, rate in zip(steps, rates, strict=True) if step > 0 and rate > 0]
    seconds = sum(each for _, each in timed)
    return {
        "prefill_tokens_per_second": length * len(counted) / prefill if prefill else None,
        "decode_tokens_per_second": sum(step for step, _ in timed) / seconds if seconds else None,
        "prompt_tokens": length,
    }


def _rows(engine: Any) -> dict[str, Any]:
    """A classifier reads a row once and answers."""
    length = max(1, min(PROMPT_TOKENS, engine.info.context_length))
    prompts = _prompts(engine, length)
    engine.logits_of(prompts[:1])
    began = time.perf_counter()
    for prompt in prompts[1:]:
        engine.logits_of([prompt])
    rate = length * (len(prompts) - 1) / (time.perf_counter() - began)
    return {"prefill_tokens_per_second": rate, "decode_tokens_per_second": None, "prompt_tokens": length}


def _prompts(engine: Engine, length: int) -> list[list[int]]:
    draw = random.Random(0)
    ids = [token for token in range(engine.info.vocab_size or 1000) if token not in engine.renderer.end_ids]
    return [draw.choices(ids, k=length) for _ in range(_PROMPTS)]


def main() -> None:
    """Print the figures of one build as JSON."""
    from phi3tune.engines.folders import folder_kind
    from phi3tune.engines.models import Kind, ModelRef

    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--adapter", default="")
    parser.add_argument("--task", choices=("chat", "classification"), default="chat")
    parser.add_argument("--threads", type=int, required=True)
    given = parser.parse_args()
    kind: Kind = "onnxruntime" if folder_kind(given.folder) == "portable" else "onnxruntime-genai"
    adapter = Path(given.adapter) if given.adapter else None
    ref = ModelRef(str(given.folder), given.folder.name, kind, given.folder, adapter, task=given.task)
    output, sys.stdout = sys.stdout, sys.stderr
    output.write(json.dumps(figures(ref, given.threads)))


if __name__ == "__main__":
    main()
