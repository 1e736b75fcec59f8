"""Serve the page: `python app.py`, a Space and `phi3tune app` all end here.

Gradio takes seconds to import, so what can go wrong before that is told before that.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from phi3tune import system
from phi3tune.errors import UserError
from phi3tune.paths import Workspace
from phi3tune.ui.guard import LOCAL_NAMES, Guard

if TYPE_CHECKING:
    from phi3tune.ui.endpoint_card import Endpoints

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 7860
MAX_FILE_SIZE = "1gb"
QUEUE_SIZE = 64


def serve(endpoints: Callable[[Workspace], Endpoints], host: str | None = None, port: int | None = None) -> None:
    """Build the page over the current workspace and serve it until interrupted.

    `endpoints` makes the server's side of the Deploy tab, which this package does not import.
    `None` takes `GRADIO_SERVER_NAME` and `GRADIO_SERVER_PORT`, or 127.0.0.1:7860. Raises `UserError`
    when the address cannot be listened on; another port is never tried instead.
    """
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
    from starlette.middleware import Middleware

    from phi3tune.ui.page import create_ui
    from phi3tune.ui.theme import CSS_FILE, theme

    workspace = Workspace.current()
    served = endpoints(workspace)
    demo = create_ui(workspace, served)
    demo.queue(max_size=QUEUE_SIZE)
    demo.launch(
        quiet=True,
        prevent_thread_lock=True,
        server_name=host,
        server_port=port,
        theme=theme(),
        css_paths=CSS_FILE,
        footer_links=["settings"],
        run_history=False,
        ssr_mode=False,
        max_file_size=MAX_FILE_SIZE,
        blocked_paths=[str(Path.cwd()), str(workspace.root)],
        share=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        app_kwargs={"middleware": [Middleware(Guard, local=host in LOCAL_NAMES)]},
    )
    sys.stdout.write(f"phi3tune is at {demo.local_url}  (workspace: {workspace.root}; Ctrl+C ends it, jobs go on)\n")
    sys.stdout.flush()
    try:
        demo.block_thread()
    finally:
        served.stop()


def _port_from_environment() -> int:
    text = os.environ.get("GRADIO_SERVER_PORT", str(DEFAULT_PORT))
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise UserError(f"GRADIO_SERVER_PORT is {text!r}; a port is a number from 1 to 65535")
    return int(text)
