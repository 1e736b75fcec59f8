"""The launch files, run with the cluster's programs played by small scripts: what `phi3tune` is asked to do at the end.

Their formats are held against the documented fields: Kubeflow Trainer's TrainJob (v1alpha1, 2.2 and later) and
SkyPilot's task YAML.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from phi3tune.config import TrainConfig, parse

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"

PHI3TUNE = """#!/bin/bash
python3 -c 'import json, os, sys; print(json.dumps([os.environ["PHI3TUNE_MAIN_ADDRESS"], *sys.argv[1:]]))' "$@"
"""
SCONTROL = """#!/bin/bash
[[ "$*" == "show hostnames node[7-8]" ]] && printf 'node7\\nnode8\\n'
"""
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
for SLURM_NODEID in 0 1; do export SLURM_NODEID; "$@" || exit; done
"""


@pytest.fixture
def machine(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine on which those programs are the first to be found."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, text in {"phi3tune": PHI3TUNE, "scontrol": SCONTROL, "srun": SRUN}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    kept = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
    return {**kept, "PATH": f"{programs}:/usr/bin:/bin", "PHI3TUNE_HOME": str(tmp_path / "home")}


def asked(command: list[str], environment: dict[str, str], folder: Path = ROOT) -> list[list[str]]:
    """(main address, arguments of phi3tune ...) of every call."""
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def settings(call: list[str]) -> TrainConfig:
    """The settings that a call gives beside its file, as the command line reads them."""
    address, verb, *flags = call
    given = {name[2:].replace("-", "_"): value for name, value in zip(flags[::2], flags[1::2], strict=True)}
    assert verb == "train"
    assert given.pop("config") == "run.yaml"
    checked = parse(TrainConfig, {**given, "dataset": "rows.jsonl", "batch_size": 64})
    assert checked.main_address == address
    return checked


def test_slurm_starts_every_node_with_its_rank(machine: dict[str, str]):
    cluster = {
        "SLURM_SUBMIT_DIR": str(ROOT),
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_GPUS_ON_NODE": "8",
        "SLURM_JOB_NODELIST": "node[7-8]",
        "SLURM_JOB_ID": "1234567",
        "RUN": "support-1",
        "CONFIG": "run.yaml",
    }
    # The project's own environment must not be found before the programs here.
    script = (DEPLOY / "slurm.sbatch").read_text().replace("$PWD/.venv/bin:", "")
    configs = [settings(call) for call in asked(["bash", "-c", script], {**machine, **cluster})]
    assert [config.machine_rank for config in configs] == [0, 1]
    for config in configs:
        assert (config.name, config.machines, config.processes) == ("support-1", 2, 8)
        assert config.main_address == "node7:24567"


def test_slurm_directives_are_read_by_sbatch():
    """sbatch stops reading at the first line that is no comment."""
    lines = (DEPLOY / "slurm.sbatch").read_text().splitlines()
    first_command = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    directives = [number for number, line in enumerate(lines) if line.startswith("#SBATCH ")]
    assert directives
    assert max(directives) < first_command


def test_a_run_that_is_there_is_resumed_where_the_machines_are_now(machine: dict[str, str]):
    run = Path(machine["PHI3TUNE_HOME"]) / "runs" / "support-1"
    run.mkdir(parents=True)
    (run / "run.yaml").touch()
    place = {
        "RUN": "support-1",
        "CONFIG": "run.yaml",
        "MACHINES": "2",
        "PROCESSES": "4",
        "MAIN_ADDRESS": "10.0.0.9:29500",
        "MACHINE_RANK": "0",
    }
    script = ["bash", str(DEPLOY / "train.sh")]
    assert asked(script, {**machine, **place}) == [["10.0.0.9:29500", "resume", "support-1"]]
    [call] = asked(script, {**machine, **place, "MACHINE_RANK": "1"})
    assert settings(call).machine_rank == 1


@pytest.mark.parametrize("name", ["RUN", "CONFIG", "MACHINES", "MACHINE_RANK", "PROCESSES", "MAIN_ADDRESS"])
def test_what_is_missing_is_named(machine: dict[str, str], name: str):
    names = ("RUN", "CONFIG", "MACHINES", "MACHINE_RANK", "PROCESSES", "MAIN_ADDRESS")
    place = {other: "1" for other in names if other != name}
    done = subprocess.run(
        ["bash", str(DEPLOY / "train.sh")], env={**machine, **place}, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert f"{name}:" in done.stderr


def test_kubernetes_starts_every_node_with_its_rank(machine: dict[str, str]):
    job = yaml.safe_load((DEPLOY / "kubernetes.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("trainer.kubeflow.org/v1alpha1", "TrainJob")
    assert job["spec"].keys() <= {"runtimeRef", "trainer", "runtimePatches", "initializer", "suspend"}
    assert job["spec"]["runtimeRef"]["name"] == "torch-distributed"
    trainer = job["spec"]["trainer"]
    assert trainer.keys() <= {"image", "numNodes", "command", "args", "env", "resourcesPerNode"}
    given = {entry["name"]: entry["value"] for entry in trainer["env"]}
    assert all(isinstance(value, str) for value in given.values())
    assert given["PROCESSES"] == trainer["resourcesPerNode"]["limits"]["nvidia.com/gpu"]
    # What Kubeflow Trainer's torch plugin sets in the pods of a node.
    node = {"PET_NNODES": "2", "PET_NODE_RANK": "1", "PET_MASTER_ADDR": "phi3tune-node-0-0", "PET_MASTER_PORT": "29500"}
    command = [word.replace("/opt/phi3tune", str(ROOT)) for word in trainer["command"]]
    home = {"PHI3TUNE_HOME": machine["PHI3TUNE_HOME"], "CONFIG": "run.yaml"}
    [call] = asked(command, {**machine, **given, **home, **node})
    config = settings(call)
    assert (config.machines, config.machine_rank, config.processes) == (trainer["numNodes"], 1, 8)
    assert config.main_address == "phi3tune-node-0-0:29500"


def test_kubernetes_mounts_the_volume_that_it_names():
    job = yaml.safe_load((DEPLOY / "kubernetes.yaml").read_text())
    [patch] = job["spec"]["runtimePatches"]
    [node] = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    pod: dict[str, Any] = node["template"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert (node["name"], container["name"]) == ("node", "node")  # as the runtime torch-distributed names them
    assert [mount["name"] for mount in container["volumeMounts"]] == [volume["name"] for volume in pod["volumes"]]


def test_skypilot_starts_every_node_with_its_rank(machine: dict[str, str]):
    task = yaml.safe_load((DEPLOY / "skypilot.yaml").read_text())
    documented = {"name", "workdir", "num_nodes", "resources", "envs", "file_mounts", "setup", "run"}
    assert task.keys() <= documented
    assert task["envs"]["RUN"] is None, "SkyPilot then asks for it"
    assert all(value is None or isinstance(value, str) for value in task["envs"].values())
    node = {
        "SKYPILOT_NUM_NODES": "2",
        "SKYPILOT_NODE_RANK": "1",
        "SKYPILOT_NUM_GPUS_PER_NODE": "8",
        "SKYPILOT_NODE_IPS": "10.0.0.4\n10.0.0.5",
        "RUN": "support-1",
        "CONFIG": task["envs"]["CONFIG"],
    }
    script = task["run"].replace("$PWD/.venv/bin:", "")
    [call] = asked(["bash", "-c", script], {**machine, **node})
    config = settings(call)
    assert (config.machines, config.machine_rank, config.processes) == (task["num_nodes"], 1, 8)
    assert config.main_address == "10.0.0.4:29500"
    subprocess.run(["bash", "-n", "-c", task["setup"]], check=True)
