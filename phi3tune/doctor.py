"""What a person asking for help is asked first: versions, device, cores, memory, disk, what is missing."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from phi3tune import __version__, system
from phi3tune.paths import NANO, PACKAGE, Workspace

# Below these a known hole is open or the code does not run; the pins in requirements.txt are higher.
FLOORS = {
    "gradio": (6, 20),
    "starlette": (1, 0, 1),
    "transformers": (5, 3),
    "torch": (2, 10),
    "trl": (1, 16),
    "peft": (0, 21),
    "datasets": (5, 0),
    "onnxruntime": (1, 30),
    "onnxruntime-genai": (0, 18),
    "pyarrow": (14, 0, 1),
    "onnx": (1, 21),
    "python-multipart": (0, 0, 27),
    "tokenizers": (0, 22),
    "safetensors": (0, 6),
}
# Trackers and optimizers that a setting may name.
OPTIONAL = (
    "trackio",
    "tensorboard",
    "wandb",
    "torchao",
    "galore-torch",
    "apollo-torch",
    "grokadamw",
    "schedulefree",
    "torch-optimi",
    "deepspeed",
)
FREE_DISK = 2 * system.GIB
HUB_SECONDS = 5.0


@dataclass(frozen=True)
class Report:
    """Sizes in bytes. `problems` is empty when everything is there.

    cache         where models of the Hub are kept
    optional      packages that some settings need -> version, or None
    quantisation  whether bitsandbytes works here
    calibration   whether builds can be calibrated by GPTQ, or what installs it
    hub           whether the Hub can be reached
    hub_token     where its token comes from; never the token
    """

    phi3tune: str
    python: str
    platform: str
    versions: dict[str, str | None]
    device: str
    training_dtype: str
    cores: int
    memory_total: int
    memory_available: int
    workspace: str
    disk_free: int
    cache: str
    cache_disk_free: int
    optional: dict[str, str | None]
    quantisation: str
    calibration: str
    hub: str
    hub_token: str | None
    problems: list[str]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def examine(workspace: Workspace) -> Report:
    """Look at the installation, the device and the disk. Imports torch (some seconds)."""
    versions = {name: _version(name) for name in FLOORS}
    problems = [_version_problem(name, found) for name, found in versions.items()]
    device, dtype = _device() if versions["torch"] else ("unknown", "unknown")
    memory, free = system.memory(), system.disk_free(workspace.root)
    if free < FREE_DISK:
        problems.append(f"the disk of {workspace.root} has {free / 1e9:.1f} GB free; runs and builds need more")
    if not (NANO / "model.safetensors").is_file():
        problems.append(f"the bundled model phi3-nano is missing from {NANO.relative_to(PACKAGE)}; install again")
    cache = _cache()
    reach, token = _hub()
    return Report(
        phi3tune=__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        versions=versions,
        device=device,
        training_dtype=dtype,
        cores=system.cores(),
        memory_total=memory.total,
        memory_available=memory.available,
        workspace=str(workspace.root),
        disk_free=free,
        cache=str(cache),
        cache_disk_free=system.disk_free(cache),
        optional={name: _version(name) for name in OPTIONAL},
        quantisation=_quantisation(),
        calibration=_calibration(),
        hub=reach,
        hub_token=token,
        problems=[problem for problem in problems if problem],
    )


def _cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _hub() -> tuple[str, str | None]:
    """Whether the Hub answers, and where its token would come from."""
    import httpx2
    from huggingface_hub import constants, get_token

    token = None
    if get_token():
        variables = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
        token = next((name for name in variables if os.environ.get(name)), constants.HF_TOKEN_PATH)
    if constants.HF_HUB_OFFLINE:
        return "not asked: HF_HUB_OFFLINE is set", token
    endpoint = os.environ.get("HF_ENDPOINT") or constants.ENDPOINT
    try:
        httpx2.head(endpoint, timeout=HUB_SECONDS)
    except httpx2.HTTPError as error:
        return f"{endpoint} does not answer ({type(error).__name__}); models and data on this machine still work", token
    return f"{endpoint} answers", token


def _quantisation() -> str:
    """bitsandbytes' version and the device that it quantises on, or why it cannot."""
    version = _version("bitsandbytes")
    if version is None:
        return "missing: --base-bits 8 and 4 need bitsandbytes"
    return f"bitsandbytes {version} on {'the GPU' if system.gpu_visible() else 'the CPU'}"


def _calibration() -> str:
    """gptqmodel's version, or the line that installs it."""
    from phi3tune.export.recipe import GPTQ_INSTALL

    version = _version("gptqmodel")
    return f"gptqmodel {version}" if version else f"missing: --algorithm gptq needs it; {GPTQ_INSTALL}"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _version_problem(name: str, found: str | None) -> str:
    floor = FLOORS[name]
    wanted = ".".join(map(str, floor))
    if found is None:
        return f"{name} is not installed; install the requirements again"
    if tuple(int(part) for part in re.findall(r"\d+", found)[: len(floor)]) < floor:
        return f"{name} {found} is too old: {wanted} or later is needed"
    return ""


def _device() -> tuple[str, str]:
    import torch

    from phi3tune.engines.torch_engine import choose_dtype

    if torch.cuda.is_available():
        device = torch.device("cuda")
        name = torch.cuda.get_device_name(0)
    else:
        device = torch.device("cpu")
        name = f"cpu ({torch.backends.cpu.get_cpu_capability()})"
    dtype = str(choose_dtype(device)).removeprefix("torch.")
    if device.type == "cpu" and dtype == "bfloat16":
        dtype = "float32, or bfloat16 where float32 would fill the memory"
    return name, dtype
