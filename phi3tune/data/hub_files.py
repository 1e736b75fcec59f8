"""Which files of a Hub dataset are its train, validation and test part: told from the card and from names only."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any

from phi3tune.config import Part
from phi3tune.data.files import suffix_of
from phi3tune.errors import UserError

# In order of preference, where a repository holds the same rows twice.
KINDS = (".parquet", ".jsonl", ".json", ".csv", ".tsv")
# As in datasets.data_files (FILES_TO_IGNORE and KEYWORDS_IN_FILENAME_BASE_PATTERNS of datasets 5.2).
_NOT_DATA = {"config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json"}
_KEYWORDS: dict[Part, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_SHARD = re.compile(r"(.+?)[-_.]\d{5}[-_]of[-_]\d{5}")
_CONVERTED = "refs/convert/parquet"  # the Hub's own Parquet branch: one folder for each configuration
_NAMED = 20


@dataclass(frozen=True)
class Chosen:
    """Files of each part by their path in the repository, in order, all of one type; and data files not used."""

    parts: dict[Part, list[str]]
    left_out: list[str]


def kind_of(path: str) -> str | None:
    """The type of a data file without its compression, or None."""
    suffix = suffix_of(path)
    return next((kind for kind in KINDS if suffix in (kind, f"{kind}.gz", f"{kind}.zst")), None)


def choose(
    paths: Sequence[str], card: Mapping[str, Any], wanted: str | None, revision: str | None, name: str
) -> Chosen:
    """The data files of one configuration, or of one split of the only configuration.

    paths   every file of the repository
    card    the metadata of its README
    wanted  a configuration's name, or a split's; then its rows are all of the dataset

    The card's `configs` decide; without them, a split is told by a file's name, else by its folders', as in
    https://huggingface.co/docs/hub/datasets-data-files-configuration. `UserError` names what cannot be used.
    """
    data = sorted(path for path in paths if kind_of(path) and not _hidden(path))
    if not data:
        raise UserError(_nothing(paths, name))
    configs = _configs(card, data)
    if not configs and (revision == _CONVERTED or any(path.startswith(f"{wanted}/") for path in data)):
        folders = sorted({path.split("/")[0] for path in data if "/" in path})
        configs = {folder: _by_name([p for p in data if p.startswith(f"{folder}/")]) for folder in folders}
    if not configs:
        configs = {"default": _by_name(data)}
    if wanted in configs:
        splits, wanted = configs[wanted], None
    elif len(configs) == 1:
        (splits,) = configs.values()
    elif wanted is None and "default" in configs:
        splits = configs["default"]
    else:
        given = "it has" if wanted is None else f"it has no {wanted[:80]!r} but"
        raise UserError(
            f"{name}: {given} {len(configs)} configurations: {_listed(configs)}; name one: {name}:{next(iter(configs))}"
        )
    splits = {split: files for split, files in splits.items() if files}
    if wanted is not None:
        if wanted not in splits:
            raise UserError(f"{name} has no configuration or split {wanted[:80]!r}; its splits: {_listed(splits)}")
        parts: dict[Part, list[str]] = {"train": splits[wanted]}
    else:
        parts = _parts(splits, name)
    kind = _commonest(parts)
    used: dict[Part, list[str]] = {part: [p for p in files if kind_of(p) == kind] for part, files in parts.items()}
    used = {part: files for part, files in used.items() if files}
    taken = {path for files in used.values() for path in files}
    return Chosen(used, [path for path in data if path not in taken])


def _hidden(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return parts[-1] in _NOT_DATA or any(part.startswith((".", "__")) for part in parts)


def _nothing(paths: Sequence[str], name: str) -> str:
    if any(path.endswith(".py") and "/" not in path for path in paths):
        return (
            f"{name} has only a loading script, which is never run; "
            f"try the Hub's own Parquet files: {name}@{_CONVERTED}"
        )
    found = _listed(dict.fromkeys(PurePosixPath(path).suffix or path for path in paths)) or "no file"
    read = f"{', '.join(KINDS)}, text also as .gz and .zst"
    return f"{name} has no data file that can be read; it has {found}; read are {read}"


def _configs(card: Mapping[str, Any], data: Sequence[str]) -> dict[str, dict[str, list[str]]]:
    """Configuration -> split -> files, as the card says; the default one is called `default`, whatever its name."""
    found = {}
    listed = card.get("configs")
    for entry in listed if isinstance(listed, list) else []:
        if not isinstance(entry, dict):
            continue
        folder = str(entry.get("data_dir") or "").strip("./")
        below = [path for path in data if not folder or path.startswith(f"{folder}/")]
        patterns = entry.get("data_files")
        if patterns is None:
            splits = _by_name(below)
        else:
            splits = {
                split: [path for path in below if any(_matches(path, pattern, folder) for pattern in globs)]
                for split, globs in _patterns(patterns).items()
            }
        config = "default" if entry.get("default") is True else str(entry.get("config_name", "default"))
        if any(splits.values()):
            found[config] = splits
    return found


def _patterns(data_files: Any) -> dict[str, list[str]]:
    """The forms that a card may write: one pattern, a list, `split: pattern`, or a list of split and path."""
    if isinstance(data_files, str):
        return {"train": [data_files]}
    if isinstance(data_files, dict):
        return {str(split): _texts(value) for split, value in data_files.items()}
    found: dict[str, list[str]] = {}
    for item in data_files if isinstance(data_files, list) else []:
        if isinstance(item, dict):
            found.setdefault(str(item.get("split", "train")), []).extend(_texts(item.get("path")))
        else:
            found.setdefault("train", []).extend(_texts(item))
    return found


def _texts(value: Any) -> list[str]:
    return [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, str)]


def _matches(path: str, pattern: str, folder: str) -> bool:
    """Glob by path segments; `**` stands for any number of them."""
    whole = f"{folder}/{pattern}" if folder else pattern
    return _segments(path.split("/"), [part for part in whole.split("/") if part not in ("", ".")])


def _segments(path: Sequence[str], pattern: Sequence[str]) -> bool:
    reached = {0}  # how many segments of the path the pattern so far may have used
    for part in pattern:
        if part == "**":
            reached = set(range(min(reached), len(path) + 1))
        else:
            reached = {used + 1 for used in reached if used < len(path) and fnmatchcase(path[used], part)}
        if not reached:
            return False
    return len(path) in reached


def _by_name(data: Sequence[str]) -> dict[str, list[str]]:
    """Split -> files, from the names of files, else of their folders; all are `train` when no name tells."""
    splits: dict[str, list[str]] = {}
    for path in data:
        *folders, file = PurePosixPath(path).parts
        shard = _SHARD.match(file)
        for place in (file, *reversed(folders)):
            if part := _part(place):
                split = shard[1] if shard is not None and place == file else part
                splits.setdefault(split, []).append(path)
                break
    return splits or {"train": list(data)}


def _part(name: str) -> Part | None:
    """The part that a name speaks of: `train-00000-of-00002.parquet`, `train_sft`, `dev`."""
    words = re.split(r"[-._ 0-9]+", name.lower())
    return next((part for part, known in _KEYWORDS.items() if not set(known).isdisjoint(words)), None)


def _parts(splits: Mapping[str, list[str]], name: str) -> dict[Part, list[str]]:
    if len(splits) == 1:
        return {"train": next(iter(splits.values()))}
    found: dict[Part, list[str]] = {}
    for part in _KEYWORDS:
        same = [split for split in splits if _part(split) == part]
        if part in same or len(same) == 1:
            found[part] = splits[part if part in same else same[0]]
        elif same:
            raise UserError(f"{name} has several {part} splits: {_listed(same)}; name one: {name}:{same[0]}")
    if "train" not in found:
        raise UserError(
            f"{name} has no train split but {_listed(splits)}; name one to use it whole: {name}:{next(iter(splits))}"
        )
    return found


def _commonest(parts: Mapping[Part, Sequence[str]]) -> str:
    kinds = Counter(str(kind_of(path)) for path in parts["train"])
    return max(kinds, key=lambda kind: (kinds[kind], -KINDS.index(kind)))


def _listed(names: Mapping[str, Any] | Sequence[str]) -> str:
    shown = [name[:60] for name in list(names)[:_NAMED]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
