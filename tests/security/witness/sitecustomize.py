"""What the app does behind its answers: files opened, hosts asked, programs started, in it and in its children.

Python imports a module of this name at its start when it finds one on its path. It writes one JSON line for each event.
"""

import json
import os
import sys

_LOG = os.open(os.environ["WITNESS_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
# Paths that hold one of these are told; all that a program opens would be too much.
_CANARIES = tuple(os.environ["WITNESS_CANARIES"].split(os.pathsep))


def _told(event: str, args: tuple) -> object:
    """What is written of an event; None for those that say nothing."""
    if event == "open" and isinstance(args[0], str | bytes):
        path = os.fsdecode(args[0])
        return path if any(name in path for name in _CANARIES) else None
    if event in ("socket.connect", "socket.sendto"):
        return args[1]
    if event in ("socket.getaddrinfo", "socket.gethostbyname"):
        return args[0]
    if event == "subprocess.Popen":
        return args[1]
    return args if event in ("os.system", "os.exec", "os.spawn") else None


def _witness(event: str, args: tuple) -> None:
    told = _told(event, args)
    if told is not None:
        os.write(_LOG, json.dumps([event, told], default=str).encode() + b"\n")


sys.addaudithook(_witness)
