"""Why a worker died that could not say so itself."""

from __future__ import annotations

import re
import time
from pathlib import Path

from phi3tune import system
from phi3tune.events import Status
from phi3tune.jobs import workers
from phi3tune.jobs.folder import LOG, RESUMABLE

_TAIL_BYTES = 20_000
# The last line of a traceback, a C++ abort, faulthandler's headline, and what the system's loader says.
_ERROR = re.compile(
    r"([\w.]+(Error|Exception|Exit|Interrupt|Killed)\b(:|$)|Fatal Python error|terminate called|what\(\):|"
    r"Segmentation fault|.*\b(out of memory|error while loading)\b)",
    re.IGNORECASE,
)
# Libraries' chatter, torch's `[W1122 ...]` among it, and the places in a traceback.
_CHATTER = re.compile(r"\w*warning\b|warnings\.warn|\bdeprecat|\[?[WI]\d{4} |File \"|[\^~]+$", re.IGNORECASE)


# How the reason of a job begins whose worker was there and is not any more.
KILLED, SILENT = "the worker was killed by", "the worker ended without a word"


def buried(folder: Path, status: Status) -> Status:
    """The status of a job whose worker died while it was `running`, or before it said so (`queued`): failed, with the
    cause and where it goes on."""
    code = workers.exit_code(folder)
    last, told = last_words(folder), "; its last words: "
    if code is not None and code < 0:
        reason = f"{KILLED} {system.signal_name(-code)}"
        if code == -9:
            reason += " (by hand, or by the system when memory ran out)"
    elif status.state == "queued":
        reason, told = "the worker could not start", ": "
    else:
        reason = f"{SILENT} (killed, out of memory, or the machine restarted)"
    if last:
        reason += told + last
    if status.kind == "train":
        reason += f"; it can be resumed from step {status.resume_step or 0}"
    elif status.kind in RESUMABLE:
        reason += "; it can be resumed, and keeps the answers that it has"
    ended = time.time() if status.state == "queued" else status.heartbeat
    return status.model_copy(update={"state": "failed", "reason": reason, "ended": ended})


def last_words(folder: Path) -> str:
    """What the newest attempt said last in the worker's log: an error, else whatever is no warning, else nothing."""
    try:
        with (folder / LOG).open("rb") as stream:
            stream.seek(max(0, (folder / LOG).stat().st_size - _TAIL_BYTES))
            text = stream.read().rpartition(workers.ATTEMPT)[2].decode("utf-8", "replace")
    except OSError:
        return ""
    # What follows the mark on its own line is the time of the start.
    lines = [line.strip() for line in text.splitlines()[1:] if line.strip()]
    plain = [line for line in lines if not _CHATTER.search(line)]
    errors = [line for line in plain if _ERROR.match(line)]
    return (errors or plain or [""])[-1][:200]
