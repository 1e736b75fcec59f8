"""Many prompts from a file, answered by one or more models: one line for each answer, gone on with after a break."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phi3tune.chat import Message, clean
from phi3tune.config import PromptsConfig, SamplingConfig
from phi3tune.engines.base import Completion, Engine, chat_request, sampling_of
from phi3tune.engines.models import resolve
from phi3tune.errors import UserError
from phi3tune.evaluation import scoring
from phi3tune.events import Phase, Reporter
from phi3tune.paths import Workspace

ANSWERS = "answers.jsonl"
SUFFIXES = (".txt", ".jsonl", ".csv")
MAX_BYTES, MAX_PROMPTS = 64 * 1024**2, 100_000
COLUMN = "prompt"
BATCH = 8  # prompts between two looks at whether to stop, and between two syncs of the answers


@dataclass(frozen=True)
class Prompt:
    """A chat that waits for an answer. `reference` is the answer that the file itself gives, if it does."""

    row: int
    messages: tuple[Message, ...]
    reference: str | None = None


def read(path: Path) -> list[Prompt]:
    """The prompts of a file: .txt with one on each line, .jsonl with `prompt` or `messages`, .csv with `prompt`.

    Messages that end with an answer are taken without it. Raises `UserError` that names the line of the first fault.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"{path} cannot be read as prompts; the types are {', '.join(SUFFIXES)}")
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise UserError(f"{path.name} has {size:,} bytes; at most {MAX_BYTES:,} are accepted: split the file")
        text = path.read_bytes().decode("utf-8-sig")
        rows = {".txt": _lines, ".jsonl": _json_lines, ".csv": _csv_rows}[suffix](text, path.name)
        found = [Prompt(row, *asked) for row, asked in enumerate(rows)]
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path.name} is not UTF-8 text; save it as UTF-8") from None
    except csv.Error as error:
        raise UserError(f"{path.name} cannot be read as CSV: {error}") from None
    if not found:
        raise UserError(f"{path.name} holds no prompt; write one on each line")
    if len(found) > MAX_PROMPTS:
        raise UserError(f"{path.name} holds {len(found):,} prompts; at most {MAX_PROMPTS:,} are accepted")
    return found


def _lines(text: str, name: str) -> Iterator[tuple[tuple[Message, ...], None]]:
    for line in text.splitlines():
        if line.strip():
            yield _question(line), None


def _csv_rows(text: str, name: str) -> Iterator[tuple[tuple[Message, ...], None]]:
    reader = csv.DictReader(text.splitlines(keepends=True), strict=True)
    if COLUMN not in (reader.fieldnames or []):
        raise UserError(
            f"{name} has no column {COLUMN!r}; its columns are {', '.join(reader.fieldnames or []) or 'none'}"
        )
    for row in reader:
        if (row[COLUMN] or "").strip():
            yield _question(row[COLUMN]), None


def _json_lines(text: str, name: str) -> Iterator[tuple[tuple[Message, ...], str | None]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
            if isinstance(value, str):
                value = {COLUMN: value}
            yield _chat(value)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            told = f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else str(error)
            raise UserError(
                f'{name}:{number} is no prompt ({told[:120]}); write {{"prompt": "..."}} or {{"messages": [...]}}'
            ) from None


def _chat(value: dict[str, Any]) -> tuple[tuple[Message, ...], str | None]:
    if isinstance(value.get(COLUMN), str) and value[COLUMN].strip():
        return _question(value[COLUMN]), None
    given = value["messages"] if isinstance(value.get("messages"), list) else value[COLUMN]
    messages: list[Message] = [{"role": message["role"], "content": clean(message["content"])} for message in given]
    reference = messages.pop()["content"] if messages and messages[-1]["role"] == "assistant" else None
    roles = [message["role"] for message in messages]
    if not roles or roles[-1] != "user" or any(role not in ("system", "user", "assistant") for role in roles):
        raise ValueError("messages of system, user and assistant that end with a question are needed")
    return tuple(messages), reference


def _question(text: str) -> tuple[Message, ...]:
    return ({"role": "user", "content": clean(text)},)


def answer(config: PromptsConfig, out: Path, workspace: Workspace, reporter: Reporter) -> dict[str, Any]:
    """Answer every prompt by every model into `out`, one JSON line each; answers that are there are kept.

    Returns what was done, with `status` `stopped` when the user stopped it. A prompt that does not fit has `error` in
    place of an `answer`. Raises `UserError` for files and models that cannot be had, and when `out` holds the answers
    to something else.
    """
    prompts = read(Path(config.prompts))
    refs = [resolve(model, workspace) for model in config.models]
    asked = {(ref.ref, prompt.row): _key(ref.ref, prompt, config) for ref in refs for prompt in prompts}
    done = _done(out, asked)
    counter = scoring.RowCounter(reporter, len(asked))
    counter.skip(len(done))
    result: dict[str, Any] = {"path": str(out.absolute()), "prompts": len(prompts), "models": [ref.ref for ref in refs]}
    result["failed"] = sum(bool(line.get("error")) for line in done.values())
    left = [[prompt for prompt in prompts if (ref.ref, prompt.row) not in done] for ref in refs]
    for group in scoring.groups(refs):
        group = [place for place in group if left[place]]
        if not group:
            continue
        reporter.emit(Phase(name="loading " + ", ".join(refs[place].label for place in group)))
        with scoring.opened([refs[place] for place in group], key_variable=config.key_variable) as engines:
            for place, engine in zip(group, engines, strict=True):
                reporter.emit(Phase(name=f"answering with {refs[place].label}"))
                for start in range(0, len(left[place]), BATCH):
                    if reporter.stop_requested():
                        return {**result, "status": "stopped"}
                    began, batch = time.monotonic(), left[place][start : start + BATCH]
                    lines = _answered(engine, refs[place].ref, batch, config, asked)
                    _append(out, lines)
                    result["failed"] += sum(bool(line.get("error")) for line in lines)
                    counter.add(len(batch), time.monotonic() - began)
    return result


def _answered(
    engine: Engine, model: str, batch: Sequence[Prompt], config: PromptsConfig, asked: dict[tuple[str, int], str]
) -> list[dict[str, Any]]:
    """The lines of some prompts."""
    requests = {prompt.row: chat_request(engine, _messages(prompt, config), sampling_of(config)) for prompt in batch}
    said = scoring.answers(engine, requests)
    return [{"key": asked[model, each.row], **_line(model, each, config, said[each.row])} for each in batch]


def _messages(prompt: Prompt, config: SamplingConfig) -> list[Message]:
    own = any(message["role"] == "system" for message in prompt.messages)
    system: list[Message] = [{"role": "system", "content": config.system}] if config.system.strip() and not own else []
    return [*system, *prompt.messages]


def _key(model: str, prompt: Prompt, config: PromptsConfig) -> str:
    """What an answer depends on, shortened."""
    settings = SamplingConfig.model_validate(config.model_dump(include=set(SamplingConfig.model_fields)))
    asked = [model, prompt.row, _messages(prompt, config), settings.model_dump(mode="json")]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]


def _line(model: str, prompt: Prompt, config: SamplingConfig, said: Completion | str) -> dict[str, Any]:
    line: dict[str, Any] = {"row": prompt.row, "model": model, "messages": _messages(prompt, config)}
    if prompt.reference is not None:
        line["reference"] = prompt.reference
    if isinstance(said, str):
        return {**line, "answer": None, "error": said}
    usage = said.usage
    return {
        **line,
        "answer": said.text,
        "finish_reason": said.finish_reason,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "first_token_seconds": usage.first_token_seconds,
        "tokens_per_second": usage.tokens_per_second,
    }


def _done(out: Path, asked: dict[tuple[str, int], str]) -> dict[tuple[str, int], dict[str, Any]]:
    """The answers that `out` holds already. Half a line, from a process that was killed, is cut off."""
    done: dict[tuple[str, int], dict[str, Any]] = {}
    try:
        data = out.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        for line in whole.splitlines():
            value = json.loads(line)
            place = value["model"], value["row"]
            if asked.get(place) != value["key"]:
                raise ValueError("answers to other prompts, models or settings")
            done[place] = value
        if len(whole) < len(data):
            os.truncate(out, len(whole))
    except FileNotFoundError:
        pass
    except OSError as error:
        raise UserError(f"{out} cannot be used: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError) as error:
        told = str(error) if isinstance(error, ValueError) and "other prompts" in str(error) else "something else"
        raise UserError(f"{out} holds {told}; name another file, or delete it") from None
    return done


def _append(out: Path, lines: Sequence[dict[str, Any]]) -> None:
    try:
        with out.open("ab") as stream:
            stream.write("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode())
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error.strerror or error}") from None


def load(out: Path) -> list[dict[str, Any]]:
    """The whole lines of a file of answers so far; empty where there is none yet."""
    if not out.is_file():
        return []
    text = out.read_text(encoding="utf-8")
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].split("\n") if line]
