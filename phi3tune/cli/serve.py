"""`phi3tune serve`."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phi3tune.cli import INTERRUPTED, plain_typer
from phi3tune.cli.flags import config_flags
from phi3tune.cli.follow import print_json, say
from phi3tune.config import ServeConfig, parse, read_yaml
from phi3tune.paths import Workspace

if TYPE_CHECKING:
    from phi3tune.server.running import Server

app = plain_typer()


@app.command()
@config_flags(ServeConfig)
def serve(
    models: Annotated[list[str] | None, typer.Argument(metavar="MODEL...", help="Runs, builds, folders.")] = None,
    *,
    config: Annotated[Path | None, typer.Option(help="YAML file of settings; flags win over it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object when it is ready.")] = False,
    settings: dict[str, Any],
) -> int:
    """Serve models over OpenAI's HTTP interface, until Ctrl+C or SIGTERM.

    The address is printed on standard output as soon as the models are loaded.
    """
    given = {**(read_yaml(config) if config is not None else {}), **settings}
    if models:
        given["models"] = models
    chosen = parse(ServeConfig, given)
    from phi3tune.server.endpoint import check_address, open_app, open_log

    check_address(chosen.host, chosen.port)
    from phi3tune.engines.pool import shared
    from phi3tune.server.running import Server

    workspace = Workspace.current()
    pool = shared()
    log = open_log(chosen, workspace)
    try:
        server = Server(open_app(chosen, workspace, pool, log), chosen)
        for name, ref in server.app.state.server.models.refs.items():
            if ref.failing:
                say(f"warning: {name} does not answer like the model that it was built from; see its parity report")
        say(f"loading {', '.join(chosen.models)} for {server.url}")
        threading.Thread(target=_announce, args=(server, chosen, as_json), daemon=True).start()
        server.serve_until_stopped()
        error = server.app.state.server.models.error
        if error is not None:
            raise error
        return INTERRUPTED if server.interrupted else 0
    finally:
        pool.close()
        log.close()


def _announce(server: Server, config: ServeConfig, as_json: bool) -> None:
    """Print where it answers as soon as it does; end the server when a model could not be loaded."""
    models = server.app.state.server.models
    models.ended.wait()
    if models.error is not None:
        server.should_exit = True
    elif as_json:
        print_json({"url": server.url, "models": config.models})
    else:
        typer.echo(f"phi3tune serves {', '.join(config.models)} at {server.url}  (Ctrl+C ends it)")
