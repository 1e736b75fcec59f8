"""The audit of a dataset against plain batch tokenisation of the same rows, in one run: medians of alternating rounds.

    python benchmarks/data_audit.py [rows] [rounds]

Plain tokenisation is a call of transformers' fast tokenizer for each 1,000 rows' text. The audit is everything that
`phi3tune data check` does but the languages, which are timed on their own, with a reading of their own. Target: at
most 2.0 times, and memory that grows with rows by no more than the index (at most about 1 kB a row): half the rows
are measured first, to tell growth from what is always there. Each measurement runs in its own process.
"""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from wordfreq import top_n_list

ROOT = Path(__file__).parents[1]
QUESTION, ANSWER = (25, 65), (35, 70)  # words, about those of grade-school maths


def write_rows(path: Path, rows: int) -> None:
    """Sentences of frequent English words with names and numbers: seeded, no row like another."""
    generator = random.Random(7)
    words = [word for word in top_n_list("en", 4000) if word.isascii() and word.isalpha()]
    weights = [1 / (rank + 3) for rank in range(len(words))]

    def text(lengths: tuple[int, int]) -> str:
        chosen = generator.choices(words, weights, k=generator.randint(*lengths))
        for place in range(3, len(chosen), generator.randint(6, 12)):
            chosen[place] = str(generator.randint(2, 900))
        for place in range(0, len(chosen), 12):
            chosen[place] = chosen[place].capitalize()
            chosen[place - 1] += "."
        return " ".join(chosen).rstrip(".") + "."

    with path.open("w", encoding="utf-8") as file:
        for _ in range(rows):
            file.write(json.dumps({"question": text(QUESTION), "answer": text(ANSWER)}) + "\n")


def tokenise(path: Path) -> None:
    from transformers import AutoTokenizer

    from phi3tune.paths import NANO

    tokenizer = AutoTokenizer.from_pretrained(NANO)
    batch: list[str] = []
    start = time.perf_counter()
    with path.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            batch.append(f"{row['question']}\n{row['answer']}")
            if len(batch) == 1000:
                tokenizer(batch)
                batch = []
    if batch:
        tokenizer(batch)
    tell(time.perf_counter() - start)


def audit(path: Path) -> None:
    from phi3tune import data
    from phi3tune.chat import Renderer
    from phi3tune.config import DatasetConfig
    from phi3tune.paths import NANO, Workspace

    renderer = Renderer.load(NANO)
    with tempfile.TemporaryDirectory() as home:
        start = time.perf_counter()
        data.check(DatasetConfig(dataset=str(path)), Workspace(Path(home)), renderer, languages=False)
        tell(time.perf_counter() - start)


def detect_languages(path: Path) -> None:
    """A sample of 1,000 rows, taken while all are read."""
    from phi3tune.config import DatasetConfig
    from phi3tune.data import Source
    from phi3tune.data.audit.languages import Languages
    from phi3tune.paths import Workspace

    with tempfile.TemporaryDirectory() as home:
        start = time.perf_counter()
        languages = Languages()
        for _, conversation in Source(DatasetConfig(dataset=str(path)), Workspace(Path(home))).read():
            languages.add(conversation)
        languages.shares()
        tell(time.perf_counter() - start)


def tell(seconds: float) -> None:
    print(json.dumps({"seconds": seconds, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


def run(what: str, path: Path) -> dict[str, Any]:
    argv = [sys.executable, __file__, what, str(path)]
    answer = subprocess.run(argv, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    result: dict[str, Any] = json.loads(answer.splitlines()[-1])
    return result


def measure(rows: int, rounds: int, folder: Path) -> None:
    path = folder / f"{rows}.jsonl"
    write_rows(path, rows)
    plain, audited = [], []
    for _ in range(rounds):
        plain.append(run("tokenise", path))
        audited.append(run("audit", path))
    one, two = (median(each["seconds"] for each in runs) for runs in (plain, audited))
    ratios = sorted(b["seconds"] / a["seconds"] for a, b in zip(plain, audited, strict=True))
    languages = run("languages", path)["seconds"]
    peak = max(each["peak"] for each in audited) / 2**20
    spread = f"{ratios[0]:.2f}-{ratios[-1]:.2f}"
    print(
        f"| {rows:,} | {one:.1f} | {two:.1f} | {two / one:.2f} | {spread} | {languages:.1f} | {peak:.0f} |", flush=True
    )


def main() -> None:
    if len(sys.argv) == 3 and not sys.argv[1].isdigit():
        what, path = sys.argv[1], Path(sys.argv[2])
        {"tokenise": tokenise, "audit": audit, "languages": detect_languages}[what](path)
        return
    rows, rounds = (int(sys.argv[1]) if len(sys.argv) > 1 else 200_000), (int(sys.argv[2]) if len(sys.argv) > 2 else 3)
    print("| rows | tokenisation (s) | audit (s) | ratio | lowest-highest | languages (s) | peak memory (MiB) |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for count in (rows // 2, rows):
            measure(count, rounds, Path(folder))


if __name__ == "__main__":
    main()
