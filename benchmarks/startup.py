"""Start-up against the libraries that it cannot be faster than, in one run: medians of paired rounds.

    python benchmarks/startup.py [rounds]

Two ratios: `phi3tune --help` against `python -c "import typer"` (at most 3), and `python app.py` until the
first HTTP 200 against `python -c "import gradio"` (at most 1.3).
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]


def seconds(argv: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    return time.perf_counter() - start


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def seconds_to_page() -> float:
    port = free_port()
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "GRADIO_SERVER_PORT": str(port), "PHI3TUNE_HOME": home}
        start = time.perf_counter()
        server = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
        try:
            while True:
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                        if answer.status == 200:
                            return time.perf_counter() - start
                except (urllib.error.URLError, ConnectionError):
                    if server.poll() is not None:
                        raise SystemExit(f"app.py ended with code {server.returncode}") from None
                    time.sleep(0.02)
        finally:
            server.terminate()
            server.wait()


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    script = Path(sys.executable).with_name("phi3tune")
    measures = {
        "phi3tune --help": (
            lambda: seconds([str(script), "--help"]),
            lambda: seconds([sys.executable, "-c", "import typer"]),
        ),
        "app.py to HTTP 200": (seconds_to_page, lambda: seconds([sys.executable, "-c", "import gradio"])),
    }
    print(f"| what | median s | its floor | median s | ratio, median of {rounds} | limit |")
    print("|---|---:|---|---:|---:|---:|")
    floors = {"phi3tune --help": ("import typer", 3.0), "app.py to HTTP 200": ("import gradio", 1.3)}
    for name, (ours, theirs) in measures.items():
        ours(), theirs()  # the first of each reads the disk
        pairs = [(ours(), theirs()) for _ in range(rounds)]
        ratio = median(a / b for a, b in pairs)
        floor, limit = floors[name]
        print(
            f"| {name} | {median(a for a, _ in pairs):.2f} | {floor} | {median(b for _, b in pairs):.2f} "
            f"| {ratio:.2f} | {limit} |"
        )


if __name__ == "__main__":
    main()
