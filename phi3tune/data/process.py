"""Strangers' files are read in a process of their own, with limits on memory and time: this process's side."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import orjson

from phi3tune import system
from phi3tune.config import DatasetConfig
from phi3tune.data.conversation import Conversation
from phi3tune.data.division import FilePart
from phi3tune.data.lines import Limits
from phi3tune.data.problems import Change, Problem, ProblemLog
from phi3tune.data.reading import Shape

OUT_OF_MEMORY = 77  # the child's exit code
_COMMAND = [sys.executable, "-m", "phi3tune.data.child"]
_ENDING_SECONDS = 10.0
_READ = ("format", "columns", "unsupported")


def read_in_child(
    files: Mapping[FilePart, tuple[Path, str]], config: DatasetConfig, log: ProblemLog, limits: Limits, shape: Shape
) -> Iterator[tuple[FilePart, Conversation]]:
    """`read_files` in a child process, which ends with the iterator.

    What the child cannot finish is a problem of the file: `expands_too_large`, `takes_too_long`, or
    `reader_failed` when it crashed.
    """
    # Never so much that the system would end this process in place of the child.
    spare = max(system.GIB, system.memory().available // 2)
    limits = dataclasses.replace(limits, memory_bytes=min(limits.memory_bytes, spare))
    request = {
        "files": {part: (str(path), name) for part, (path, name) in files.items()},
        "config": {name: getattr(config, name) for name in _READ},
        "repair": log.repair,
        "limits": dataclasses.asdict(limits),
    }
    part: FilePart = next(iter(files))
    name = files[part][1]
    with tempfile.TemporaryFile() as errors:
        # pyarrow's own allocator reserves more address space than the limit leaves.
        env = {"ARROW_DEFAULT_MEMORY_POOL": "system"}
        process = system.start_process(_COMMAND, env=env, stdin=subprocess.PIPE, output=subprocess.PIPE, errors=errors)
        late = threading.Event()
        ended = False
        try:
            _send(process, request)
            for line in _lines(process, limits.wait_seconds, late):
                message = orjson.loads(line)
                ended = "end" in message
                if "begin" in message:
                    part = message["begin"]
                    name = files[part][1]
                    continue
                _take(message, log, shape)
                for messages, row, number, group in message["rows"]:
                    yield part, Conversation(tuple(messages), row, name, number, group)
            if not ended:
                code = _exit_code(process, late)
                _log_end(code, late.is_set(), name, log, limits, errors)
        finally:
            _end(process)


def _send(process: subprocess.Popen[bytes], request: dict[str, Any]) -> None:
    assert process.stdin is not None
    try:
        # Not orjson: the name of a file may hold bytes that are no text.
        process.stdin.write(json.dumps(request).encode())
        process.stdin.close()
    except BrokenPipeError:
        return  # it has died: how, its exit code says


def _lines(process: subprocess.Popen[bytes], seconds: float, late: threading.Event) -> Iterator[bytes]:
    """What the child says; it is killed when it says nothing for so long. Time between two lines is not counted."""
    assert process.stdout is not None

    def give_up() -> None:
        late.set()
        system.kill_group(process.pid)

    while True:
        timer = threading.Timer(seconds, give_up)
        timer.daemon = True
        timer.start()
        try:
            line = process.stdout.readline()
        finally:
            timer.cancel()
        if not line.endswith(b"\n"):
            return
        yield line


def _exit_code(process: subprocess.Popen[bytes], late: threading.Event) -> int:
    """How it ended; one that closed its output and still runs is as good as silent."""
    try:
        return process.wait(_ENDING_SECONDS)
    except subprocess.TimeoutExpired:
        late.set()
        return 0


def _take(message: dict[str, Any], log: ProblemLog, shape: Shape) -> None:
    for name, value in message.get("shape", {}).items():
        setattr(shape, name, value)
    log.errors += [Problem.model_construct(**problem) for problem in message["errors"]]
    log.warnings += [Problem.model_construct(**problem) for problem in message["warnings"]]
    log.changes += [Change(*change) for change in message["changes"]]
    log.error_count, log.warning_count = message["counts"]


def _log_end(code: int, late: bool, file: str, log: ProblemLog, limits: Limits, errors: IO[bytes]) -> None:
    signal_name = system.signal_name(-code) if code < 0 else ""
    if late or signal_name == "SIGXCPU":
        seconds = limits.wait_seconds if late else limits.cpu_seconds
        fix = "split the file, or save it as JSON Lines"
        log.error("takes_too_long", file, None, f"no end after {seconds:g} seconds", "a file that reads faster", fix)
    elif code == OUT_OF_MEMORY or signal_name == "SIGKILL":  # the system kills what takes the last memory
        found, expected = "more than the memory that one file may take", f"at most {limits.memory_bytes:,} bytes"
        log.error("expands_too_large", file, None, found, expected, "split the file, or save it as JSON Lines")
    else:
        errors.seek(max(0, errors.seek(0, os.SEEK_END) - 4096))
        last = errors.read().decode("utf-8", "replace").strip().rpartition("\n")[2]
        found = f"the reader ended with {signal_name or f'code {code}'} {last}".strip()
        fix = "save the file again with another program"
        log.error("reader_failed", file, None, found, "a file that can be read to its end", fix)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        system.kill_group(process.pid)
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
