"""Whether the app is somebody's own or hosted for visitors, and what visitors may do."""

from __future__ import annotations

import os
from functools import lru_cache

from phi3tune.config import HostedConfig, parse
from phi3tune.errors import UserError
from phi3tune.paths import Workspace

MODE = "PHI3TUNE_MODE"
PREFIX = "PHI3TUNE_HOSTED_"


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
    if workspace.shared is None:
        return None
    given = {name: os.environ.get(f"{PREFIX}{name.upper()}") for name in HostedConfig.model_fields}
    return _parsed(tuple((name, value) for name, value in given.items() if value))


@lru_cache(maxsize=4)
def _parsed(given: tuple[tuple[str, str], ...]) -> HostedConfig:
    return parse(HostedConfig, dict(given))
