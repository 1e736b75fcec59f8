"""Two network namespaces act as two machines, with nothing in common but a cable."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from phi3tune.paths import file_hash
from tests.training.runs import write_rows

MACHINES = ("phi3tune-a", "phi3tune-b")
ADDRESSES = ("10.213.77.1", "10.213.77.2")


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def machines() -> Iterator[None]:
    """The namespaces, each with one end of a virtual cable and its loopback."""
    try:
        for name in MACHINES:
            ip("netns", "add", name)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"network namespaces need root and the program ip: {error}")
    try:
        ip("link", "add", "phi3a", "netns", MACHINES[0], "type", "veth", "peer", "name", "phi3b", "netns", MACHINES[1])
        for name, link, address in zip(MACHINES, ("phi3a", "phi3b"), ADDRESSES, strict=True):
            ip("-n", name, "address", "add", f"{address}/24", "dev", link)
            ip("-n", name, "link", "set", link, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield
    finally:
        for name in MACHINES:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def start(rank: int, home: Path, arguments: list[str]) -> subprocess.Popen[str]:
    link = ("phi3a", "phi3b")[rank]
    environment = {**os.environ, "PHI3TUNE_HOME": str(home), "GLOO_SOCKET_IFNAME": link, "TP_SOCKET_IFNAME": link}
    return subprocess.Popen(
        ["ip", "netns", "exec", MACHINES[rank], sys.executable, "-m", "phi3tune", *arguments, "--json"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_two_machines_finish_a_run_that_one_of_them_keeps(machines: None, tmp_path: Path, tiny_model: Path):
    rows = write_rows(tmp_path / "lamps.jsonl")
    homes = [tmp_path / "home-a", tmp_path / "home-b"]
    given = {
        "dataset": rows,
        "model": tiny_model,
        "name": "lamps",
        "max-steps": 4,
        "save-steps": 2,
        "batch-size": 8,
        "max-length": 64,
        "machines": 2,
        "main-address": f"{ADDRESSES[0]}:29512",
    }
    arguments = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    runners = [start(rank, homes[rank], ["train", *arguments, "--machine-rank", str(rank)]) for rank in range(2)]
    outputs = [runner.communicate(timeout=500) for runner in runners]
    assert [runner.returncode for runner in runners] == [0, 0], outputs
    kept, joined = (json.loads(output) for output, _ in outputs)
    assert (kept["status"], kept["steps"]) == ("completed", 4)
    assert (joined["status"], joined["steps"]) == ("completed", 4)
    folder = homes[0] / "runs" / "lamps"
    assert file_hash(folder / "adapter" / "adapter_model.safetensors")
    manifest = json.loads((folder / "checkpoints" / "checkpoint-4" / "manifest.json").read_text())
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= manifest["files"].keys()
    assert not (homes[1] / "runs").exists()
