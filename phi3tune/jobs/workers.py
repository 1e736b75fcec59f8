"""The worker processes that this process started."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from phi3tune import hosted, system
from phi3tune.jobs.folder import LOG, read_config
from phi3tune.paths import SHARED, Workspace

ATTEMPT = b"--- worker started "
_HUB_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH")
# Variables without which a worker does not find its libraries, its devices, its caches or its limits.
_PLAIN = re.compile(
    r"PATH|HOME|USER|LANG|LC_\w+|TZ|TMPDIR|TEMP|TMP|VIRTUAL_ENV|SYSTEMROOT|COMSPEC|USERPROFILE|LOCALAPPDATA|APPDATA|"
    r"LD_LIBRARY_PATH|DYLD_LIBRARY_PATH|XDG_\w+|PYTHON\w*|(CUDA|NVIDIA|ROCR|HIP|OMP|MKL|OPENBLAS|KMP|TORCH|NCCL)_\w+|"
    r"PHI3TUNE_\w+|HF_HOME|HF_HUB_CACHE|HF_HUB_OFFLINE|HF_ENDPOINT|HF_HUB_DISABLE_TELEMETRY|TOKENIZERS_PARALLELISM"
)

# So that their exit code can be told.
children: dict[Path, subprocess.Popen[bytes]] = {}
_secrets: dict[Path, dict[str, str]] = {}


def keep_secrets(folder: Path, secrets: Mapping[str, str]) -> None:
    """Environment variables for the job's workers, as long as this process lives and is the one that starts them."""
    if secrets:
        _secrets[folder] = dict(secrets)


def start(folder: Path, workspace: Workspace) -> int:
    """Start the job's worker; its process id."""
    with (folder / LOG).open("ab") as log:
        # Last words are looked for after this line: an earlier attempt may have died of something else.
        log.write(ATTEMPT + time.strftime("%Y-%m-%d %H:%M:%S\n").encode())
        log.flush()
        child = system.start_process(
            [sys.executable, "-m", "phi3tune.worker", str(folder)],
            output=log.fileno(),
            env={**_secrets.get(folder, {}), "PHI3TUNE_HOME": str(workspace.root)},
            inherited=None if workspace.shared is None else _for_visitor(folder, workspace, workspace.shared),
            low_priority=True,
        )
    children[folder] = child
    return child.pid


def _for_visitor(folder: Path, workspace: Workspace, shared: Path) -> dict[str, str]:
    """What the worker of a visitor's job gets of this process's environment: none of its owner's secrets, but a Hub
    token for a job that names one of the models that visitors may have."""
    kept = {name: value for name, value in os.environ.items() if _PLAIN.fullmatch(name)}
    rules, config = hosted.rules(workspace), read_config(folder)
    named = [getattr(config, "model", ""), *getattr(config, "models", [])]
    if rules is not None and any(name.partition("@")[0] in rules.models for name in named):
        kept |= {name: os.environ[name] for name in _HUB_TOKENS if name in os.environ}
    else:
        kept["HF_HUB_DISABLE_IMPLICIT_TOKEN"] = "1"  # nor the one that lies in the Hub client's folder
    return {**kept, SHARED: str(shared)}


def exit_code(folder: Path) -> int | None:
    """How the job's worker ended (minus the signal that killed it); None when it lives or was started elsewhere."""
    child = children.get(folder)
    return child.poll() if child is not None else None


def wait(folder: Path) -> None:
    """Return when the job's worker, if it was started here, is gone."""
    if folder in children:
        children[folder].wait()
