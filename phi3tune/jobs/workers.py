"""The worker processes that this process started."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from phi3tune import system
from phi3tune.jobs.folder import LOG
from phi3tune.paths import Workspace

ATTEMPT = b"--- worker started "

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
            low_priority=True,
        )
    children[folder] = child
    return child.pid


def exit_code(folder: Path) -> int | None:
    """How the job's worker ended (minus the signal that killed it); None when it lives or was started elsewhere."""
    child = children.get(folder)
    return child.poll() if child is not None else None


def wait(folder: Path) -> None:
    """Return when the job's worker, if it was started here, is gone."""
    if folder in children:
        children[folder].wait()
