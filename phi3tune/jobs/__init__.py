"""Jobs: start, queue, watch, pause, stop, resume, delete.

A job is a folder. Its worker holds the lock of that folder while it lives, so a free lock under a
`running` status means that the worker died, whatever anybody remembers. Nobody owns the queue:
`dispatch` is called by the page, by every waiting command and by a worker as its last act.
"""

from phi3tune.jobs.actions import cancel, delete, follow, pause, reorder, resume, stop, submit
from phi3tune.jobs.dispatcher import dispatch
from phi3tune.jobs.folder import (
    CONFIGS,
    EVENTS,
    JOB,
    LANES,
    LOCK,
    LOG,
    PAUSE,
    RESUMABLE,
    RESUMABLE_STATES,
    STATUS,
    STOP,
    Kind,
    read_config,
    read_job,
    read_status,
    write_status,
)
from phi3tune.jobs.interrupted import dismiss, interrupted
from phi3tune.jobs.views import JobView, active, find, folders, named, projects, runs, view

__all__ = [
    "CONFIGS",
    "EVENTS",
    "JOB",
    "LANES",
    "LOCK",
    "LOG",
    "PAUSE",
    "RESUMABLE",
    "RESUMABLE_STATES",
    "STATUS",
    "STOP",
    "JobView",
    "Kind",
    "active",
    "cancel",
    "delete",
    "dismiss",
    "dispatch",
    "find",
    "folders",
    "follow",
    "interrupted",
    "named",
    "pause",
    "projects",
    "read_config",
    "read_job",
    "read_status",
    "reorder",
    "resume",
    "runs",
    "stop",
    "submit",
    "view",
    "write_status",
]
