"""Jobs that died while they worked, as in a restart of the machine, and can go on."""

from __future__ import annotations

from pathlib import Path

from phi3tune.jobs.death import KILLED, SILENT
from phi3tune.jobs.folder import RESUMABLE, read_status
from phi3tune.jobs.views import JobView, folders, view
from phi3tune.paths import Workspace, write_text

# Holds when the job ended that a person does not want to be asked about any more.
DISMISSED = "dismissed"


def interrupted(workspace: Workspace) -> list[JobView]:
    """Jobs whose worker died and that can be resumed, newest first, but for those that were dismissed since."""
    found = [view(folder) for folder in folders(workspace)]
    dead = [job for job in found if job.state == "failed" and job.reason.startswith((KILLED, SILENT))]
    offered = [job for job in dead if job.kind in RESUMABLE and _dismissed(job.folder) != str(job.ended)]
    return sorted(offered, key=lambda job: -(job.ended or job.created))


def dismiss(folder: Path) -> None:
    """Offer the job no more, unless it is resumed and dies again. It can still be resumed where it is listed."""
    write_text(folder / DISMISSED, str(read_status(folder).ended))


def _dismissed(folder: Path) -> str:
    try:
        return (folder / DISMISSED).read_text(encoding="utf-8")
    except OSError:
        return ""
