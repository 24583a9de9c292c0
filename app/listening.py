"""Sockets that our servers listen on."""

from __future__ import annotations

import ipaddress
import socket

from escalade.domains.errors import SettingsError

BACKLOG = 2048


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address to listen on."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listening(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A socket to serve on. shared: whether other processes of the same user may listen there too, and the kernel
    spreads connections over all. Raises SettingsError."""
    try:
        # With its protocol, TCP and not 0: asyncio sets TCP_NODELAY on connections of such sockets only. Without it the
        # second packet of an answer waits for the client's delayed acknowledgement, 40 ms.
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _unusable(host, port, error) from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _unusable(host, port, error) from None
    return listener


def _unusable(host: str, port: int, error: OSError) -> SettingsError:
    return SettingsError(f"--host {host} --port {port} cannot be listened on: {error.strerror}")
