"""Named settings of the playground and the terminal chat: `presets.json` in the workspace."""

from __future__ import annotations

import json
from typing import Any

from phi3tune import hosted
from phi3tune.config import SamplingConfig, differing, parse
from phi3tune.errors import UserError
from phi3tune.paths import Workspace, write_json

FILE = "presets.json"
MOST, LONGEST_NAME = 200, 64


def names(workspace: Workspace) -> list[str]:
    """Names of all presets, in order."""
    return sorted(_read(workspace))


def load(name: str, workspace: Workspace) -> SamplingConfig:
    """One preset. Raises `UserError` when there is none of that name, or it holds what is no setting."""
    found = _read(workspace)
    if name not in found:
        raise UserError(
            f"there is no preset {name[:LONGEST_NAME]!r}; presets: {', '.join(sorted(found)) or 'none yet'}"
        )
    return parse(SamplingConfig, found[name])


def save(name: str, config: SamplingConfig, workspace: Workspace) -> None:
    """Keep settings under a name; one of the same name is replaced.

    Raises `UserError` for a name that is none, and for a visitor whose files are over their limit.
    """
    name = name.strip()
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise UserError(f"a preset's name has 1 to {LONGEST_NAME} letters, digits, spaces or signs, not {name[:80]!r}")
    found = _read(workspace)
    if name not in found and len(found) >= MOST:
        raise UserError(f"there are {MOST} presets already; delete one first")
    hosted.check_storage(workspace, len(config.model_dump_json()))
    write_json(workspace.root / FILE, {"schema": 1, "presets": {**found, name: differing(config)}})


def delete(name: str, workspace: Workspace) -> None:
    """Forget a preset. Raises `UserError` when there is none of that name."""
    load(name, workspace)
    found = _read(workspace)
    del found[name]
    write_json(workspace.root / FILE, {"schema": 1, "presets": found})


def _read(workspace: Workspace) -> dict[str, dict[str, Any]]:
    path = workspace.root / FILE
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        presets = value["presets"]
        if value["schema"] != 1 or not all(isinstance(each, dict) for each in presets.values()):
            raise ValueError("it is of another version")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} cannot be read as presets ({error}); mend it, or delete it") from None
    return dict(presets)
