"""Two network namespaces act as two machines, with nothing in common but a cable."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from phi3tune.paths import manifest_problem
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
    environment = {**os.environ, "PHI3TUNE_HOME": str(home), "GLOO_SOCKET_IFNAME": link, "PHI3TUNE_STATE": str(home)}
    return subprocess.Popen(
        ["ip", "netns", "exec", MACHINES[rank], sys.executable, "-m", "phi3tune", *arguments, "--json"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.alone
def test_two_machines_finish_a_run_that_one_of_them_keeps_also_after_the_other_was_lost(
    machines: None, tmp_path: Path, tiny_model: Path
):
    homes = [tmp_path / "home-a", tmp_path / "home-b"]
    given = {
        "dataset": write_rows(tmp_path / "lamps.jsonl"),
        "model": tiny_model,
        "name": "lamps",
        "max-steps": 6,
        "save-steps": 2,
        "log-steps": 1,
        "batch-size": 8,
        "max-length": 64,
        "machines": 2,
        "main-address": f"{ADDRESSES[0]}:29512",
    }
    settings = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    keeper = start(0, homes[0], ["train", *settings])
    joiner = start(1, homes[1], ["train", *settings, "--machine-rank", "1"])
    assert keeper.stderr is not None
    told = ""
    while "step 3:" not in told:  # checkpoint-2 is complete
        told = keeper.stderr.readline()
        assert told, "machine 0 ended before step 3"
    joiner.kill()
    joiner.communicate()
    output, _ = keeper.communicate(timeout=300)
    lost = json.loads(output)
    assert (keeper.returncode, lost["status"]) == (1, "failed")
    assert "training process" in lost["reason"]

    runners = [
        start(0, homes[0], ["resume", "lamps"]),
        start(1, homes[1], ["train", *settings, "--machine-rank", "1"]),
    ]
    outputs = [runner.communicate(timeout=300) for runner in runners]
    assert [runner.returncode for runner in runners] == [0, 0], outputs
    for output, _ in outputs:
        result = json.loads(output)
        assert (result["status"], result["steps"]) == ("completed", 6)
    assert re.search("resumed after step [24]", outputs[0][1])
    folder = homes[0] / "runs" / "lamps"
    assert manifest_problem(folder / "adapter") is None
    manifest = json.loads((folder / "checkpoints" / "checkpoint-6" / "manifest.json").read_text())
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= manifest["files"].keys()
    assert not (homes[1] / "runs").exists()
