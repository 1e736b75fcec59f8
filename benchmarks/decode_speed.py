"""Prefill and decode speed of full-size int4 builds against llama.cpp, in one run on a CPU.

    python benchmarks/decode_speed.py BUILD... --llama-python PYTHON --gguf FILE

BUILDs are folders that `benchmarks/full_size_export.py --keep` left. PYTHON is the interpreter of an environment with
`llama-cpp-python` and `gguf`; FILE is made with random Q4_0 weights of the same shape when it is not there. Engines
take turns, so that a noisy machine slows all of them alike; the table has the median of each and its ratio to
llama.cpp, round by round. `--json` prints JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
PROMPT, ANSWER = 128, 32
LLAMA = "llama.cpp Q4_0"


def make_gguf(path: Path, config: dict[str, Any]) -> None:
    """Random weights in llama.cpp's own layout; the head is Q6_K, as its quantiser makes it."""
    import gguf

    generator = np.random.default_rng(0)
    width, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    heads, pairs = config["num_attention_heads"], config["num_key_value_heads"]
    writer = gguf.GGUFWriter(str(path), "phi3")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_rope_scaling_orig_ctx_len(config["max_position_embeddings"])
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(inner)
    writer.add_block_count(layers)
    writer.add_head_count(heads)
    writer.add_head_count_kv(pairs)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(width // heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_sliding_window(config.get("sliding_window") or 0)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([f"<{number}>" for number in range(config["vocab_size"])])
    writer.add_token_scores([0.0] * config["vocab_size"])
    writer.add_token_types([1] * config["vocab_size"])

    def blocks(kind: Any, rows: int, columns: int) -> np.ndarray:
        count, size = gguf.GGML_QUANT_SIZES[kind]
        made = generator.integers(0, 256, (rows, columns // count, size), dtype=np.uint8)
        # The scale of a block, in float16: first in a Q4_0 block, last in a Q6_K one, whose 16 inner scales are int8.
        scale = np.frombuffer(np.float16(0.005).tobytes(), np.uint8)
        if kind == gguf.GGMLQuantizationType.Q4_0:
            made[..., :2] = scale
        else:
            made[..., -18:-2], made[..., -2:] = 1, scale
        return made.reshape(rows, -1)

    q4, q6 = gguf.GGMLQuantizationType.Q4_0, gguf.GGMLQuantizationType.Q6_K
    ones = np.ones(width, np.float32)
    # One array for all layers: the writer keeps them until it writes.
    layer = {
        "attn_qkv": blocks(q4, width + 2 * pairs * width // heads, width),
        "attn_output": blocks(q4, width, width),
        "ffn_up": blocks(q4, 2 * inner, width),
        "ffn_down": blocks(q4, width, inner),
    }
    writer.add_tensor("token_embd.weight", blocks(q4, config["vocab_size"], width), raw_dtype=q4)
    for number in range(layers):
        writer.add_tensor(f"blk.{number}.attn_norm.weight", ones)
        writer.add_tensor(f"blk.{number}.ffn_norm.weight", ones)
        for name, data in layer.items():
            writer.add_tensor(f"blk.{number}.{name}.weight", data, raw_dtype=q4)
    writer.add_tensor("output_norm.weight", ones)
    writer.add_tensor("output.weight", blocks(q6, config["vocab_size"], width), raw_dtype=q6)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def llama_rounds(path: Path, threads: int) -> None:
    """In llama.cpp's environment: one measurement for every line that comes in."""
    from llama_cpp import Llama

    model = Llama(str(path), n_ctx=512, n_threads=threads, n_threads_batch=threads, n_batch=PROMPT, verbose=False)
    for number, _ in enumerate(sys.stdin):
        model.reset()
        began = time.perf_counter()
        model.eval(prompt(number))
        token = model.sample(temp=0.0)
        middle = time.perf_counter()
        for _ in range(ANSWER):
            model.eval([token])
            token = model.sample(temp=0.0)
        print(json.dumps([PROMPT / (middle - began), ANSWER / (time.perf_counter() - middle)]), flush=True)


def genai_rounds(path: Path, threads: int, ngram: bool) -> None:
    """The same on onnxruntime-genai, greedily; an end token does not end it."""
    import onnxruntime_genai as og

    config = og.Config(str(path))
    session = {"intra_op_num_threads": threads}
    config.overlay(json.dumps({"model": {"decoder": {"session_options": session}}}))
    model = og.Model(config)
    for number, _ in enumerate(sys.stdin):
        params = og.GeneratorParams(model)
        params.set_search_options(max_length=512, min_length=512 if not ngram else 0)
        if ngram:
            params.set_speculative_options(ngram_size=2)
        generator = og.Generator(model, params)
        began = time.perf_counter()
        generator.append_tokens(np.array(prompt(number), np.int32))
        middle = time.perf_counter()
        while generator.token_count() < PROMPT + ANSWER:
            generator.generate_next_token()
        made = generator.token_count() - PROMPT
        print(json.dumps([PROMPT / (middle - began), made / (time.perf_counter() - middle)]), flush=True)


def prompt(number: int) -> list[int]:
    """Random ordinary tokens, others in each round: nothing is left to a cache."""
    return [int(token) for token in np.random.default_rng(number).integers(5, 31_000, PROMPT)]


def bandwidth(threads: int) -> float:
    """Bytes per second that so many threads read from memory, best of five."""
    parts = [np.ones(1 << 25, np.float64) for _ in range(threads)]  # 256 MB each: far beyond any cache
    best = 0.0
    for _ in range(5):
        workers = [threading.Thread(target=part.max) for part in parts]
        began = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        best = max(best, sum(part.nbytes for part in parts) / (time.perf_counter() - began))
    return best


def read_per_token(build: Path) -> int:
    """Bytes of weights that a token needs: all but the embeddings, of which it reads one row."""
    import onnx

    graph = onnx.load(build / "model.onnx", load_external_data=False).graph
    total = 0
    for item in graph.initializer:
        if not item.name.startswith("model.embed_tokens"):
            total += sum(int(entry.value) for entry in item.external_data if entry.key == "length")
    return total


def start(python: str, kind: str, path: Path, threads: int) -> subprocess.Popen[str]:
    command = [python, __file__, str(path), "--child", kind, "--threads", str(threads)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def measure(given: argparse.Namespace) -> dict[str, Any]:
    children = {LLAMA: start(given.llama_python, "llama", given.gguf, given.threads)}
    for build in given.builds:
        children[build.name] = start(sys.executable, "genai", build, given.threads)
        if given.ngram:
            children[f"{build.name}, n-gram"] = start(sys.executable, "ngram", build, given.threads)
    figures: dict[str, list[list[float]]] = {name: [] for name in children}
    speed = [bandwidth(given.threads)]
    try:
        for number in range(given.rounds + 1):
            for name, child in children.items():
                assert child.stdin is not None and child.stdout is not None
                child.stdin.write("go\n")
                child.stdin.flush()
                line = child.stdout.readline()
                if not line:
                    raise SystemExit(f"{name} ended with code {child.wait()}; run its child by itself to see why")
                if number:  # the first round reads the weights from disk
                    figures[name].append(json.loads(line))
            speed.append(bandwidth(given.threads))
    finally:
        for child in children.values():
            child.kill()
            child.wait()
    sizes = {build.name: read_per_token(build) for build in given.builds}
    rows = []
    for name, rounds in figures.items():
        ratios = [
            [a / b for a, b in zip(ours, theirs, strict=True)]
            for ours, theirs in zip(rounds, figures[LLAMA], strict=True)
        ]
        decode = statistics.median(row[1] for row in rounds)
        size = sizes.get(name, given.gguf.stat().st_size if name == LLAMA else 0)
        rows.append(
            {
                "engine": name,
                "prefill": statistics.median(row[0] for row in rounds),
                "decode": decode,
                "prefill_ratio": statistics.median(row[0] for row in ratios),
                "decode_ratio": statistics.median(row[1] for row in ratios),
                "bytes_per_token": size,
                "bandwidth_share": decode * size / statistics.median(speed),
            }
        )
    return {"threads": given.threads, "rounds": given.rounds, "bandwidth": statistics.median(speed), "rows": rows}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("builds", nargs="+", type=Path, metavar="BUILD")
    parser.add_argument("--llama-python", default=sys.executable)
    parser.add_argument("--gguf", type=Path)
    parser.add_argument("--threads", type=int, default=0, help="0 for as many as there are cores")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ngram", action="store_true", help="measure every build with n-gram speculation, too")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", choices=["llama", "genai", "ngram", "gguf"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child == "gguf":
        make_gguf(given.gguf, json.loads((given.builds[0] / "config.json").read_text()))
        return 0
    if given.child == "llama":
        llama_rounds(given.builds[0], given.threads)
        return 0
    if given.child is not None:
        genai_rounds(given.builds[0], given.threads, given.child == "ngram")
        return 0
    sys.path.insert(0, str(ROOT))
    from phi3tune import system

    given.threads = given.threads or system.cores()
    if not given.gguf.is_file():
        subprocess.run(
            [given.llama_python, __file__, str(given.builds[0]), "--child", "gguf", "--gguf", str(given.gguf)],
            check=True,
        )
    result = measure(given)
    if given.json:
        print(json.dumps(result))
        return 0
    print(
        f"{given.threads} threads, memory reads {result['bandwidth'] / 1e9:.1f} GB/s, medians of {given.rounds} rounds"
    )
    print(
        f"{'engine':28} {'prefill':>8} {'decode':>8} {'ratios to llama.cpp':>22} {'GB/token':>9} {'of bandwidth':>13}"
    )
    for row in result["rows"]:
        print(
            f"{row['engine']:28} {row['prefill']:8.1f} {row['decode']:8.2f} {row['prefill_ratio']:11.2f} "
            f"{row['decode_ratio']:10.2f} {row['bytes_per_token'] / 1e9:9.2f} {row['bandwidth_share']:13.0%}"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
