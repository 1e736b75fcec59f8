"""`phi3tune app`."""

from __future__ import annotations

from typing import Annotated

import typer

from phi3tune.cli import plain_typer

app = plain_typer()


@app.command("app")
def start(
    host: Annotated[str | None, typer.Option(help="Address to listen on; default 127.0.0.1.")] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port; default GRADIO_SERVER_PORT, or 7860.")
    ] = None,
) -> None:
    """Open the page in a browser: train, evaluate, talk."""
    from phi3tune.server.endpoint import Endpoints
    from phi3tune.ui.launch import serve

    serve(Endpoints, host, port)
