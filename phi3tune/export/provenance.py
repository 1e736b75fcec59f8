"""Where a folder with a model comes from: its base, licence, data and training, as others may know it.

Names only: no path of this machine, and no text of the data.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any

import yaml

from phi3tune.config import TrainConfig, read_yaml
from phi3tune.engines.folders import read_json
from phi3tune.engines.hub_models import HubModel, cached_folder
from phi3tune.engines.models import MODEL_RECORD, NANO_NAME
from phi3tune.errors import UserError
from phi3tune.evaluation.saved import REPORT, load_report
from phi3tune.export.recipe import BUILD
from phi3tune.paths import NANO, Workspace, inside, is_run

_CACHED = re.compile(r"models--([^/\\]+?)--([^/\\]+)")
_DEPTH = 16  # runs that trained on from one another
# Settings of a training that tell how the model came about; the others are names, or about this machine.
_TOLD = (
    "task", "method", "lora_rank", "lora_alpha", "lora_dropout", "use_rslora", "use_dora", "init", "base_bits",
    "target_modules", "last_layers", "epochs", "max_steps", "batch_size", "max_length", "packing", "loss",
    "label_smoothing", "neftune_alpha", "learning_rate", "optimizer", "scheduler", "warmup_share", "weight_decay",
    "seed",
)  # fmt: skip


@dataclass(frozen=True)
class Provenance:
    """What is known of a model's making; empty where nothing is.

    base       public name of the model that the first training started from: a Hub id where it has one
    hub        whether `base` is a Hub id
    licence    of the base, as its card names it
    run        the run that made the weights
    data       name, sha256 and rows of the training data
    settings   of the training, by name
    report     of the newest evaluation of this model in which no endpoint took part
    """

    base: str
    hub: bool
    licence: str | None
    run: str | None = None
    data: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    report: dict[str, Any] | None = None


def of(folder: Path, workspace: Workspace) -> Provenance:
    """The provenance of merged weights, an adapter or a build."""
    build = read_json(folder / BUILD) if (folder / BUILD).is_file() else {}
    source = str(build.get("made_from") or "")
    home = _home(folder)
    run = home.name if inside(home, workspace.runs) and is_run(home) else source.partition("/")[0]
    if not run or not is_run(workspace.runs / run):
        base = _base_name(source or (NANO_NAME if home.name == NANO_NAME else str(home)), workspace)
        return Provenance(base.name, base.hub, base.licence)
    run_folder = workspace.runs / run
    base = _base_name(run, workspace)
    settings = TrainConfig.model_validate(read_yaml(run_folder / "run.yaml")).model_dump(
        mode="json", include=set(_TOLD)
    )
    record = read_json(run_folder / "dataset.json") if (run_folder / "dataset.json").is_file() else {}
    data = {
        "name": public_name(str(record["name"])) if record.get("name") else None,
        "sha256": record.get("sha256"),
    }
    told = {name: settings[name] for name in _TOLD if settings.get(name) not in (None, "", [], False)}
    return Provenance(base.name, base.hub, base.licence, run, data, told, _report(run_folder, folder))


def public_name(name: str) -> str:
    """A name without the path that it may be: `owner/name` of a folder in the Hub's cache, else the last part."""
    if found := _CACHED.search(name):
        return f"{found[1]}/{found[2]}"
    if is_path(name):
        windows = PureWindowsPath(name)
        return (windows.name if windows.is_absolute() else PurePath(name).name) or "local"
    return name


def is_path(text: str) -> bool:
    """Whether a text is an absolute path, of this system or of another."""
    return len(text) > 1 and "\n" not in text and (PurePath(text).is_absolute() or PureWindowsPath(text).is_absolute())


@dataclass(frozen=True)
class _Base:
    name: str
    hub: bool
    licence: str | None


def _home(folder: Path) -> Path:
    return folder.parent.parent if folder.parent.name in ("onnx", "checkpoints") else folder.parent


def _base_name(name: str, workspace: Workspace) -> _Base:
    """The model below a run, and below the run that it may have trained on from."""
    for _ in range(_DEPTH):
        run = workspace.runs / name.partition("/")[0]
        if not (name and is_run(run)):
            break
        record, settings = run / MODEL_RECORD, read_yaml(run / "run.yaml")
        found = read_json(record).get("base") if record.is_file() else None
        name = str(found or settings.get("model") or NANO_NAME)
    if name == NANO_NAME or Path(name) == NANO:
        return _Base(NANO_NAME, False, _licence(NANO))
    cached = _CACHED.search(name)
    hub = HubModel(f"{cached[1]}/{cached[2]}", None) if cached else None if is_path(name) else HubModel.parse(name)
    if hub is None:
        return _Base(public_name(name), False, _licence(Path(name)))
    folder = cached_folder(hub)
    return _Base(hub.repo, True, (_licence(folder) if folder is not None else None) or _known_licence(hub.repo))


def _licence(folder: Path) -> str | None:
    """`license` in the head of a folder's README.md."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    _, begin, rest = card.read_text(encoding="utf-8", errors="replace").partition("---\n")
    try:
        head = yaml.safe_load(rest.partition("\n---")[0]) if begin else None
    except yaml.YAMLError:
        return None
    found = head.get("license") if isinstance(head, dict) else None
    return found if isinstance(found, str) else None


def _known_licence(repo: str) -> str | None:
    """Microsoft's text models of this class are all under MIT, as their cards on the Hub say."""
    return "mit" if repo.lower().startswith(("microsoft/phi-3", "microsoft/phi-4-mini")) else None


def _report(run: Path, folder: Path) -> dict[str, Any] | None:
    wanted = {run.name, f"{run.name}/{folder.relative_to(run).as_posix()}" if inside(folder, run) else run.name}
    for path in sorted(run.glob(f"eval/*/{REPORT}"), key=lambda path: -path.stat().st_mtime):
        try:
            report = load_report(path.parent)
        except UserError:
            continue
        names = [str(entry.get("model")) for entry in report["models"]]
        judge = str((report.get("judge") or {}).get("judge", ""))
        # An endpoint's address is nobody else's business.
        if wanted & set(names) and not any("://" in name for name in (*names, judge)):
            return report
    return None
