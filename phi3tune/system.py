"""Every call to the operating system: processor cores, memory, disk, locks, processes.

Run on Linux; the macOS and Windows branches are written to the documented behaviour of those
systems and have not been run.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

GIB = 1024**3
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Memory:
    """Memory in bytes, as this process may use it (a cgroup limit counts)."""

    total: int
    available: int


def cores() -> int:
    """Processor cores that this process may use: the affinity mask, cut by a cgroup CPU quota."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(count, _quota_cores(count)))


def _quota_cores(default: int) -> int:
    try:
        quota, period = (_CGROUP / "cpu.max").read_text().split()
    except (OSError, ValueError):
        return default
    return default if quota == "max" else math.ceil(int(quota) / int(period))


def memory() -> Memory:
    """Total and available memory, cut by a cgroup limit where there is one."""
    import psutil

    machine = psutil.virtual_memory()
    total, available = machine.total, machine.available
    try:
        limit = int((_CGROUP / "memory.max").read_text())
        used = int((_CGROUP / "memory.current").read_text())
    except (OSError, ValueError):
        return Memory(total, available)
    return Memory(min(total, limit), min(available, max(0, limit - used)))


def gpu_memory() -> Memory | None:
    """Of the first GPU that this process may see, as its driver's own tool tells it; None when there is none.

    Asked from outside, because a process that loads CUDA to ask takes half a gigabyte of it.
    """
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    query = ["nvidia-smi", f"--id={first}", "--query-gpu=memory.total,memory.free", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
        total, free = (int(figure) * 1024**2 for figure in told.splitlines()[0].split(","))
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None
    return Memory(total, free)


def process_memory(pid: int | None = None) -> int:
    """Resident bytes of one process; 0 when it is gone."""
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def process_swap() -> int:
    """Bytes of this process that are swapped to disk; 0 where the system does not tell."""
    import psutil

    return int(getattr(psutil.Process().memory_full_info(), "swap", 0))


def process_age() -> float:
    """Seconds since this process was started, its imports included."""
    import psutil

    return max(0.0, time.time() - float(psutil.Process().create_time()))


def process_started(pid: int, *, near: float) -> bool:
    """True when process `pid` lives and was started within a minute of `near` (a pid may be reused)."""
    import psutil

    try:
        process = psutil.Process(pid)
        return bool(process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - near) < 60.0)
    except psutil.Error:
        return False


def peak_memory() -> int:
    """Largest number of resident bytes that this process has had."""
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    status = Path("/proc/self/status")
    # Unlike Linux's ru_maxrss, it does not begin with the peak of whoever started this process.
    if status.is_file() and (found := re.search(r"VmHWM:\s+([0-9]+) kB", status.read_text())):
        return int(found[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes on macOS


def processes_reading(folder: Path) -> list[int]:
    """Processes of this user that have a file below `folder` open or mapped, as far as the system tells."""
    import psutil

    begin, found = str(folder.resolve()) + os.sep, []
    for process in psutil.process_iter():
        try:
            opened = any(file.path.startswith(begin) for file in process.open_files())
            if opened or _maps(process, begin):
                found.append(process.pid)
        except (psutil.Error, OSError):
            continue
    return found


def _maps(process: Any, begin: str) -> bool:
    """Whether a process has a file mapped whose path begins so. macOS does not tell."""
    maps = Path(f"/proc/{process.pid}/maps")
    if maps.exists():  # psutil reads the far larger smaps
        return f" {begin}" in maps.read_text(errors="replace")
    return any(mapped.path.startswith(begin) for mapped in getattr(process, "memory_maps", list)())


def gpu_visible() -> bool:
    """Whether this process may use an NVIDIA or AMD GPU, told from its device files without loading PyTorch."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1"):
        return False
    if sys.platform == "win32":
        return shutil.which("nvidia-smi") is not None
    names = ("nvidia[0-9]*", "kfd", "dxg")  # dxg: Windows' subsystem for Linux
    return any(any(Path("/dev").glob(name)) for name in names)


def disk_free(path: Path) -> int:
    """Free bytes on the disk that holds `path`, or its nearest existing parent."""
    place = path.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    return shutil.disk_usage(place).free


class FolderLock:
    """An operating-system lock on a file: it is free the moment its holder dies."""

    def __init__(self, path: Path) -> None:
        import filelock

        self._timeout_error = filelock.Timeout
        self._lock = filelock.FileLock(path)

    def acquire(self, timeout: float = 0.0) -> bool:
        """Take the lock; False when somebody else still holds it after `timeout` seconds."""
        try:
            self._lock.acquire(timeout=timeout)
        except self._timeout_error:
            return False
        return True

    def release(self) -> None:
        self._lock.release()


def is_locked(path: Path) -> bool:
    """True when a living process holds the lock at `path`."""
    if not path.exists():
        return False
    lock = FolderLock(path)
    if not lock.acquire():
        return True
    lock.release()
    return False


def start_process(
    argv: Sequence[str],
    *,
    output: IO[bytes] | int | None = None,
    errors: IO[bytes] | int | None = None,
    stdin: int = subprocess.DEVNULL,
    env: Mapping[str, str] | None = None,
    inherited: Mapping[str, str] | None = None,
    low_priority: bool = False,
) -> subprocess.Popen[bytes]:
    """Start a process in its own group, so that a Ctrl+C for us is not one for it.

    `env` is added to what is `inherited`, by default this process's environment; `output` takes both stdout and
    stderr, unless `errors` takes stderr.
    """
    full_env = {**(os.environ if inherited is None else inherited), **(env or {})}
    errors = output if errors is None else errors
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP
        if low_priority:
            flags |= subprocess.BELOW_NORMAL_PRIORITY_CLASS
        return subprocess.Popen(argv, stdin=stdin, stdout=output, stderr=errors, env=full_env, creationflags=flags)
    if low_priority and shutil.which("nice"):
        argv = ["nice", "-n", "10", *argv]
    return subprocess.Popen(
        argv,
        stdin=stdin,
        stdout=output,
        stderr=errors,
        env=full_env,
        start_new_session=True,
    )


def limit_this_process(memory_bytes: int, cpu_seconds: int) -> None:
    """From now on, more address space than this is a MemoryError and more processor time the end (SIGXCPU).

    A dump of its memory is never written. Nothing happens on Windows, and macOS does not hold to the memory limit.
    """
    if sys.platform == "win32":
        return
    import resource

    wanted = {
        resource.RLIMIT_AS: (memory_bytes, memory_bytes),
        resource.RLIMIT_CPU: (cpu_seconds, cpu_seconds + 5),
        resource.RLIMIT_CORE: (0, 0),
    }
    for limit, (soft, hard) in wanted.items():
        ceiling = resource.getrlimit(limit)[1]
        if ceiling != resource.RLIM_INFINITY:
            soft, hard = min(soft, ceiling), min(hard, ceiling)
        resource.setrlimit(limit, (soft, hard))


def kill_group(pid: int) -> None:
    """Kill a process started by `start_process` with everything it started; no error if gone."""
    try:
        if sys.platform == "win32":
            subprocess.run(["taskkill", "/F", "/T", "/PID", str(pid)], capture_output=True, check=False)
        else:
            os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def signal_name(number: int) -> str:
    """`SIGKILL` for 9; the number as text where the system has no name for it."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def fsync_path(path: Path) -> None:
    """Force one file's or folder's entry to disk (folders cannot be synced on Windows)."""
    if sys.platform == "win32" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def port_problem(host: str, port: int) -> str | None:
    """Why `host:port` cannot be listened on, or None when it can."""
    import socket

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        if sys.platform != "win32":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.strerror or str(error)
    return None
