"""Serve the page: `python app.py`, a Space and `phi3tune app` all end here.

Gradio takes seconds to import, so what can go wrong before that is told before that.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from phi3tune import hosted, system
from phi3tune.engines.zero import is_zero_gpu
from phi3tune.errors import UserError
from phi3tune.janitor import Janitor
from phi3tune.paths import Workspace
from phi3tune.ui.guard import LOCAL_NAMES, Guard
from phi3tune.ui.routes import Routes
from phi3tune.ui.visitors import Visitors, VisitorsWorkspace

if TYPE_CHECKING:
    from phi3tune.ui.endpoint_card import Endpoints

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 7860
MAX_FILE_SIZE = 2**30
# How often Gradio's copies of visitors' files are looked at, and how old they become.
VISITORS_CACHE_SECONDS = (600, 3600)
QUEUE_SIZE = 64


def serve(endpoints: Callable[[Workspace], Endpoints], host: str | None = None, port: int | None = None) -> None:
    """Build the page over the current workspace and serve it until interrupted.

    `endpoints` makes the server's side of the Deploy tab, which this package does not import.
    `None` takes `GRADIO_SERVER_NAME` and `GRADIO_SERVER_PORT`, or 127.0.0.1:7860. A hosted app gives every visitor a
    workspace in the current one. Raises `UserError` when the address cannot be listened on (another port is never
    tried instead), and for limits of visitors that are not accepted.
    """
    limits = hosted.limits() if hosted.is_hosted() else None
    host = os.environ.get("GRADIO_SERVER_NAME", DEFAULT_HOST) if host is None else host
    port = _port_from_environment() if port is None else port
    problem = system.port_problem(host, port)
    if problem is not None:
        raise UserError(
            f"cannot serve on {host} port {port}: {problem}; stop what uses port {port}, "
            f"or choose another one, such as GRADIO_SERVER_PORT={port + 1 if port < 65535 else DEFAULT_PORT}"
        )
    # Read by Gradio and the Hub client when they are imported.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    cache = None if limits is None else _new_cache()
    from starlette.middleware import Middleware

    from phi3tune.ui.opening import Opening
    from phi3tune.ui.page import create_ui
    from phi3tune.ui.theme import CSS_FILES, theme, variables
    from phi3tune.ui.words import I18N

    home = Workspace.current()
    if is_zero_gpu():
        from phi3tune.engines.main_process import prepare

        prepare(home)
    max_upload = MAX_FILE_SIZE if limits is None else int(limits.max_upload * hosted.MB)
    middleware = [Middleware(Guard, local=host in LOCAL_NAMES), Middleware(Routes, max_upload=max_upload)]
    workspace = home
    if cache is not None:
        workspace = VisitorsWorkspace(home.root)
        middleware.append(Middleware(Visitors, shared=home.root, cache=cache))
    served = endpoints(workspace)
    demo = create_ui(workspace, served)
    if limits is not None:
        demo.delete_cache = VISITORS_CACHE_SECONDS
    demo.queue(max_size=QUEUE_SIZE)
    demo.launch(
        quiet=True,
        prevent_thread_lock=True,
        server_name=host,
        server_port=port,
        theme=theme(),
        css=variables(),
        css_paths=CSS_FILES,
        footer_links=["settings"],
        run_history=False,
        i18n=I18N,
        ssr_mode=False,
        max_file_size=max_upload,
        blocked_paths=[str(Path.cwd()), str(home.root)],
        share=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        app_kwargs={"middleware": [*middleware, Middleware(Opening)]},
    )
    janitor = None if limits is None else Janitor(home.root)
    sys.stdout.write(f"phi3tune is at {demo.local_url}  (workspace: {home.root}; Ctrl+C ends it, jobs go on)\n")
    sys.stdout.flush()
    try:
        demo.block_thread()
    finally:
        if janitor is not None:
            janitor.stop()
        served.stop()
        if cache is not None:
            shutil.rmtree(cache, ignore_errors=True)


def _new_cache() -> Path:
    """An empty folder for Gradio's copies of files: whose the older ones are is known to nobody."""
    parent = os.environ.get("GRADIO_TEMP_DIR")
    if parent:
        Path(parent).mkdir(parents=True, exist_ok=True)
    made = tempfile.mkdtemp(prefix="phi3tune-files-", dir=parent)
    os.environ["GRADIO_TEMP_DIR"] = made
    return Path(made)


def _port_from_environment() -> int:
    text = os.environ.get("GRADIO_SERVER_PORT", str(DEFAULT_PORT))
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise UserError(f"GRADIO_SERVER_PORT is {text!r}; a port is a number from 1 to 65535")
    return int(text)
