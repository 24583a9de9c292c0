"""`escalade serve`."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from escalade.app.settings import drop_empty_folder, read_settings


def serve(
    domain: Annotated[
        list[str] | None, typer.Argument(metavar="[DOMAIN]...", help="Domains to serve; the first is the default.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any that is free.")] = 8000,
    reuse_port: Annotated[
        bool, typer.Option("--reuse-port", help="Let further processes with this option serve on the same port.")
    ] = False,
) -> None:
    """Serve decisions over HTTP: POST /decide, POST /predict, GET /health, GET /metrics; /docs describes them."""
    settings = read_settings(**({"domains": tuple(domain)} if domain else {}))
    _ = settings.limits  # what is wrong with settings is reported before anything is loaded
    drop_empty_folder()
    from escalade.app.compiling import announce_compiling

    announce_compiling()
    from escalade.app.decision_server import DecisionServer
    from escalade.app.listening import is_loopback, listening
    from escalade.app.server import create_app
    from escalade.app.wiring import open_decider

    for name in settings.domains:  # what is wrong with them is reported here, in one sentence
        open_decider(settings, name).close()
    listener = listening(host, port, shared=reuse_port)
    typer.echo(f"listening on http://{host}:{listener.getsockname()[1]}", err=True)
    if not settings.api_keys and not is_loopback(host):
        typer.echo("warning: everybody who reaches this address may ask: set ESCALADE_API_KEYS", err=True)
    logging.getLogger("escalade").setLevel(logging.INFO)
    DecisionServer(create_app(settings), settings.shutdown_s).run(sockets=[listener])
