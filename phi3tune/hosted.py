"""Whether the app is somebody's own or hosted for visitors, and what visitors may do."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from phi3tune.config import HostedConfig, parse
from phi3tune.errors import UserError
from phi3tune.events import FINAL, Status
from phi3tune.paths import Workspace, every_visitor, inside

MODE = "PHI3TUNE_MODE"
PREFIX = "PHI3TUNE_HOSTED_"
MB = 1e6


def is_hosted() -> bool:
    """Whether this process serves visitors: `PHI3TUNE_MODE=hosted`, or a Space that does not say `local`.

    Raises `UserError` for any other mode.
    """
    mode = os.environ.get(MODE) or ("hosted" if os.environ.get("SPACE_ID") else "local")
    if mode not in ("hosted", "local"):
        raise UserError(f"{MODE} is {mode!r}; accepted are hosted and local")
    return mode == "hosted"


def rules(workspace: Workspace) -> HostedConfig | None:
    """What the owner of a workspace may do at most; None for the person at the machine, who may do everything."""
    return None if workspace.shared is None else limits()


def limits() -> HostedConfig:
    """The limits of every visitor. Raises `ConfigError` where a variable has a value that is not accepted."""
    given = {name: os.environ.get(f"{PREFIX}{name.upper()}") for name in HostedConfig.model_fields}
    return _parsed(tuple((name, value) for name, value in given.items() if value))


@lru_cache(maxsize=4)
def _parsed(given: tuple[tuple[str, str], ...]) -> HostedConfig:
    return parse(HostedConfig, dict(given))


def without_places(message: str) -> str:
    """A message for whoever asks: visitors of a hosted app are not told where on its disk things lie."""
    if not is_hosted():
        return message
    home = re.escape(str(Workspace.current().root))
    own = re.sub(rf"{home}/(visitors/[0-9a-z]+/|(?!visitors/))", "", message)
    return re.sub(rf"{home}(/visitors/[0-9a-z]+)?", "your workspace", own)


@dataclass(frozen=True)
class Usage:
    """What a visitor has: bytes on disk and how many they may have, jobs that run or wait, and when all of it is
    deleted if they do not come back (seconds since 1970)."""

    bytes: int
    limit: int
    jobs: int
    expires: float


def usage(workspace: Workspace) -> Usage | None:
    """What the visitor uses now; looks at every file of theirs. None for the person at the machine."""
    allowed = rules(workspace)
    if allowed is None:
        return None
    limit = int(allowed.max_storage * MB)
    return Usage(used_bytes(workspace), limit, len(unfinished(workspace)), expires(workspace))


def used_bytes(workspace: Workspace) -> int:
    """Bytes of all files of a workspace."""
    return folder_bytes(workspace.root)


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder, links not followed; 0 where there is none."""
    return sum(_sizes(folder))


def _sizes(folder: Path) -> Iterator[int]:
    try:
        entries = list(os.scandir(folder))
    except OSError:  # gone meanwhile
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _sizes(Path(entry.path))
        else:
            try:
                yield entry.stat(follow_symlinks=False).st_size
            except OSError:
                continue


def unfinished(workspace: Workspace) -> list[Path]:
    """Folders of the jobs of a workspace that run or wait, as their last words say."""
    found = []
    for folder in (workspace.runs, workspace.evals, workspace.exports, workspace.downloads):
        for path in (*folder.glob("*/status.json"), *folder.glob("*/eval/*/status.json")):
            try:
                status = Status.model_validate_json(path.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                continue
            if status.state not in FINAL:
                found.append(path.parent)
    return found


def expires(workspace: Workspace) -> float:
    """When a visitor's work is deleted if they do not come back, in seconds since 1970."""
    try:
        last = workspace.root.stat().st_mtime
    except FileNotFoundError:  # nothing yet
        last = time.time()
    return last + limits().keep_hours * 3600


def visited(workspace: Workspace) -> None:
    """Note that the visitor is there now. A visitor without any work has no folder to note it on."""
    try:
        os.utime(workspace.root)
    except FileNotFoundError:
        return


def full(workspace: Workspace) -> bool:
    """Whether there is no place for a visitor who has no work here yet."""
    if workspace.shared is None or workspace.root.exists():
        return False
    return len(every_visitor(workspace.shared)) >= limits().max_visitors


def check_storage(workspace: Workspace, need: int = 0) -> None:
    """Raise `UserError` when a visitor's files, and `need` bytes more, are over the limit."""
    allowed = rules(workspace)
    if allowed is None:
        return
    if full(workspace):
        raise UserError(f"this app keeps the work of at most {allowed.max_visitors:,} visitors at a time; come later")
    used = used_bytes(workspace)
    if used + need > allowed.max_storage * MB or (need == 0 and used >= allowed.max_storage * MB):
        more = f", {need / MB:,.1f} MB more are needed" if need else ""
        raise UserError(
            f"your files take {used / MB:,.1f} MB{more}, and {allowed.max_storage:,g} MB are the limit here: "
            "delete some of your work"
        )


def refuse_visitor(workspace: Workspace, what: str) -> None:
    """Raise `UserError` for a visitor: `what` is only for whoever runs the app."""
    if workspace.shared is not None:
        raise UserError(f"{what} is for the owner of this app; run phi3tune yourself, or duplicate this Space")


def check_hub_model(repo: str, workspace: Workspace) -> None:
    """Raise `UserError` for a model of the Hub that a visitor may not use."""
    allowed = rules(workspace)
    if allowed is not None and repo not in allowed.models:
        choices = " or ".join(["phi3-nano", *allowed.models])
        raise UserError(f"model {repo[:200]!r} cannot be used here; choose {choices}, or a run of your own")


def check_file(path: str | None, workspace: Workspace) -> None:
    """Raise `UserError` when a visitor names a file that is not their own, whether it exists or not."""
    if path is None or workspace.shared is None:
        return
    try:
        own = inside(Path(path), workspace.root)
    except (OSError, ValueError):  # a name that no system takes
        own = False
    if not own:
        raise UserError("that file cannot be used here; choose one that you have uploaded")
