"""Guards as a YAML file says them: a list, or a list under `guards`."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from phi3tune import hosted
from phi3tune.config.base import Config, setting
from phi3tune.errors import ConfigError, UserError
from phi3tune.guardrails.check import Check, OnError, Rule, Side
from phi3tune.guardrails.guards import Guards
from phi3tune.guardrails.judges import ClassifierCheck, ModerationCheck
from phi3tune.guardrails.patterns import PatternCheck, PersonalCheck
from phi3tune.guardrails.phrases import PhraseCheck
from phi3tune.guardrails.verdict import Action
from phi3tune.paths import Workspace

if TYPE_CHECKING:
    from phi3tune.engines.pool import Pool

_LONGEST_FILE = 4 * 2**20
_MOST_GUARDS = 100
_MOST_PHRASES = 20_000
_LONGEST_PHRASE = 200


class GuardConfig(Config):
    """What every guard has."""

    name: str = setting(
        ..., "What the guard is called in the log and in masked text.", unit="name", min_length=1, max_length=100
    )
    type: str = setting("", "What the guard looks for.", unit="name")
    on: Literal["input", "output", "both"] = setting("both", "Which texts it looks at.", unit="name")
    action: Action = setting(
        "block", "What happens when it finds something: block, mask, or only flag it in the log.", unit="name"
    )
    reply: str = setting("", "What the person is told when it blocks; empty names the guard.", unit="text")
    on_error: OnError | None = setting(
        None,
        "When it cannot look, such as when its time is up: block or pass; empty blocks unless the guard only flags.",
        unit="name",
    )

    def rule(self) -> Rule:
        sides: tuple[Side, ...] = ("input", "output") if self.on == "both" else (self.on,)
        reply = self.reply or f"This was blocked by the guard {self.name}."
        on_error = self.on_error or ("pass" if self.action == "flag" else "block")
        return Rule(self.name, self.action, frozenset(sides), reply, on_error)

    @abstractmethod
    def check(self, folder: Path, workspace: Workspace, pool: Pool | None) -> Check:
        """What looks at texts; paths count from `folder`. Raises `UserError`, and `ValueError` for a bad pattern."""


class BlockListConfig(GuardConfig):
    """Words and phrases."""

    type: Literal["block_list"] = setting("block_list", "Words and phrases.", unit="name")
    words: list[str] = setting([], "Words and phrases to look for.", unit="texts")
    file: Path | None = setting(None, "UTF-8 file with more of them, one on a line.", unit="path")
    ignore_case: bool = setting(True, "Take upper and lower case for the same.", unit="switch")
    whole_words: bool = setting(True, "Find them only as whole words.", unit="switch")

    def check(self, folder: Path, workspace: Workspace, pool: Pool | None) -> Check:
        phrases = [phrase for phrase in self.words if phrase.strip()]
        if self.file is not None:
            phrases += [line.strip() for line in _read(folder / self.file.expanduser()).splitlines() if line.strip()]
        if not 1 <= len(phrases) <= _MOST_PHRASES or max(map(len, phrases)) > _LONGEST_PHRASE:
            raise UserError(
                f"it has {len(phrases):,} phrases; give 1 to {_MOST_PHRASES:,} of at most {_LONGEST_PHRASE} characters "
                "with words or file"
            )
        return PhraseCheck(phrases, ignore_case=self.ignore_case, whole_words=self.whole_words)


class RegexConfig(GuardConfig):
    """A regular expression."""

    type: Literal["regex"] = setting("regex", "A regular expression.", unit="name")
    pattern: str = setting(..., "The expression, in Python's syntax.", unit="text", min_length=1, max_length=10_000)
    ignore_case: bool = setting(False, "Take upper and lower case for the same.", unit="switch")
    time_limit: float = setting(0.2, "Longest time for one text.", unit="seconds", gt=0.0, le=10.0)

    def check(self, folder: Path, workspace: Workspace, pool: Pool | None) -> Check:
        return PatternCheck(self.pattern, "pattern", ignore_case=self.ignore_case, seconds=self.time_limit)


class SecretsConfig(GuardConfig):
    """Keys and passwords that give access, as the audit of datasets finds them."""

    type: Literal["secrets"] = setting("secrets", "Keys that give access to a service.", unit="name")

    def check(self, folder: Path, workspace: Workspace, pool: Pool | None) -> Check:
        return PersonalCheck(("api_key",))


class PersonalDataConfig(GuardConfig):
    """E-mail addresses, telephone and payment card numbers, as the audit of datasets finds them."""

    type: Literal["personal_data"] = setting("personal_data", "Personal data.", unit="name")
    kinds: list[Literal["email_address", "phone_number", "card_number"]] = setting(
        ["email_address", "phone_number", "card_number"], "Kinds to look for.", unit="names", min_length=1
    )

    def check(self, folder: Path, workspace: Workspace, pool: Pool | None) -> Check:
        return PersonalCheck(self.kinds)


class ClassifierConfig(GuardConfig):
    """A classification run of ours, or a build of one."""

    type: Literal["classifier"] = setting("classifier", "A tuned classifier.", unit="name")
    model: str = setting(..., "The classifier, as every command names models.", unit="name", min_length=1)
    labels: list[str] = setting(..., "Labels of texts that are found.", unit="names", min_length=1)
    threshold: float = setting(0.5, "Least probability of such a label.", unit="share", gt=0.0, le=1.0)

    def check(self, folder: Path, workspace: Workspace, pool: Pool | None) -> Check:
        from phi3tune.engines import models
        from phi3tune.engines.classifier import labels_of_ref
        from phi3tune.engines.pool import shared

        ref = models.resolve(self.model, workspace, download=False)
        if ref.task != "classification":
            raise UserError(f"{ref.label} is no classifier; name a run that was made with --task classification")
        known = labels_of_ref(ref)
        if unknown := sorted(set(self.labels) - set(known)):
            raise UserError(f"label {unknown[0]!r} is not one of {ref.label}; its labels are: {', '.join(known)}")
        return ClassifierCheck(ref, self.labels, self.threshold, pool or shared())


class ModerationConfig(GuardConfig):
    """An endpoint that answers as OpenAI's /v1/moderations does."""

    type: Literal["moderation"] = setting("moderation", "A moderation endpoint.", unit="name")
    url: str = setting(..., "Address of the endpoint; it usually ends in /v1.", unit="address")
    model: str | None = setting(None, "Its model; empty takes the endpoint's default.", unit="name")
    categories: list[str] = setting([], "Categories that count; empty takes all.", unit="names")
    key_variable: str = setting("OPENAI_API_KEY", "Environment variable with the key.", unit="name")
    time_limit: float = setting(10.0, "Longest wait for its answer.", unit="seconds", gt=0.0, le=120.0)

    def check(self, folder: Path, workspace: Workspace, pool: Pool | None) -> Check:
        from phi3tune.engines import address

        return ModerationCheck(
            address.parse(self.url).url,
            model=self.model,
            categories=self.categories,
            key_variable=self.key_variable,
            seconds=self.time_limit,
        )


_ALL = (BlockListConfig, RegexConfig, SecretsConfig, PersonalDataConfig, ClassifierConfig, ModerationConfig)
KINDS: dict[str, type[GuardConfig]] = {kind.model_fields["type"].default: kind for kind in _ALL}


def load(path: Path, workspace: Workspace, *, pool: Pool | None = None) -> Guards:
    """The guards of a YAML file, in its order. Classifiers are asked through `pool`, by default the shared one.

    Raises `UserError` for a file that cannot be read, `ConfigError` with every mistake in it.
    """
    hosted.refuse_visitor(workspace, "a file of guards")
    entries = _entries(path)
    problems: list[str] = []
    guards = []
    names: set[str] = set()
    for number, entry in enumerate(entries, 1):
        where = f"{path}, guard {number}"
        if not isinstance(entry, dict):
            problems.append(f"{where} is no table of settings; write '- name: ...' with its settings below")
            continue
        # YAML 1.1 reads a bare `on` as true.
        entry = {"on" if key is True else str(key): value for key, value in entry.items()}
        kind = KINDS.get(str(entry.get("type")))
        if kind is None:
            problems.append(f"{where}: type {entry.get('type')!r} is not accepted; types are: {', '.join(KINDS)}")
            continue
        try:
            config = kind.model_validate(entry)
            guards.append((config.rule(), config.check(path.absolute().parent, workspace, pool)))
        except ValidationError as error:
            problems += [f"{where}: {_told(item, kind)}" for item in error.errors(include_url=False)]
        except (UserError, ValueError) as error:
            problems.append(f"{where}: {error}")
        name = str(entry.get("name", ""))
        if name in names:
            problems.append(f"{where}: the name {name!r} is taken; give every guard a name of its own")
        names.add(name)
    if problems:
        raise ConfigError(problems)
    return Guards(guards)


def _entries(path: Path) -> list[Any]:
    import yaml

    try:
        found = yaml.safe_load(_read(path))
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError(f"guards file {path} is no YAML: {' '.join(str(error).split())[:300]}") from None
    if isinstance(found, dict) and set(found) == {"guards"}:
        found = found["guards"]
    if not isinstance(found, list) or not 1 <= len(found) <= _MOST_GUARDS:
        raise UserError(
            f"guards file {path} must hold a list of 1 to {_MOST_GUARDS} guards, each with name, type and action"
        )
    return found


def _read(path: Path) -> str:
    """A small text file. Raises `UserError`."""
    try:
        if path.stat().st_size > _LONGEST_FILE:
            raise UserError(f"{path} is larger than {_LONGEST_FILE:,} bytes; give a smaller file")
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; check its path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as UTF-8 text ({type(error).__name__})") from None


def _told(item: Any, kind: type[GuardConfig]) -> str:
    """One mistake of a guard's settings: which, what was given, what is accepted."""
    name = ".".join(map(str, item["loc"]))
    if item["type"] == "extra_forbidden":
        return f"{name!r} is not a setting; the settings are: {', '.join(kind.model_fields)}"
    if item["type"] == "missing":
        return f"{name} is missing: {kind.model_fields[name].description}"
    return f"{name} {item['input']!r} is not accepted: {item['msg']}"
