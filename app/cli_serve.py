"""`escalade serve`."""

from __future__ import annotations

import ipaddress
import socket
from typing import Annotated

import typer

from escalade.app.settings import read_settings
from escalade.domains.errors import SettingsError


def serve(
    domain: Annotated[
        list[str] | None, typer.Argument(metavar="[DOMAIN]...", help="Domains to serve; the first is the default.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8000,
) -> None:
    """Serve decisions over HTTP: POST /decide, POST /predict, GET /health, GET /metrics; /docs describes them."""
    import uvicorn

    from escalade.app.server import create_app
    from escalade.app.wiring import open_decider

    settings = read_settings(**({"domains": tuple(domain)} if domain else {}))
    for name in settings.domains:  # what is wrong with them is said here, in one sentence
        open_decider(settings, name).close()
    listener = listening(host, port)
    typer.echo(f"listening on http://{host}:{listener.getsockname()[1]}", err=True)
    if not settings.api_keys and not is_loopback(host):
        typer.echo("warning: everybody who reaches this address may ask: set ESCALADE_API_KEYS", err=True)
    server = uvicorn.Server(uvicorn.Config(create_app(settings), log_level="warning"))
    server.run(sockets=[listener])


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address to listen on."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listening(host: str, port: int) -> socket.socket:
    """A socket to serve on. Raises SettingsError."""
    try:
        return socket.create_server((host, port), backlog=2048)
    except OSError as error:
        raise SettingsError(f"--host {host} --port {port} cannot be listened on: {error.strerror}") from None
