"""Sockets that our servers listen on."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

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
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
        )
    except UnicodeError:
        raise SettingsError(f"--host {host} is not the name of a host") from None
    except OSError as error:
        raise _unusable(host, port, error) from None
    found.sort(key=lambda one: one[0] != socket.AF_INET)  # of two addresses of a name, that which every machine has
    for place, (family, _, protocol, _, address) in enumerate(found):
        try:
            return _bound(family, protocol, address, shared=shared)
        except OSError as error:
            if place == len(found) - 1:
                raise _unusable(host, port, error) from None
    raise SettingsError(f"--host {host} has no address")


def _bound(family: int, protocol: int, address: Any, *, shared: bool) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _unusable(host: str, port: int, error: OSError) -> SettingsError:
    return SettingsError(f"--host {host} --port {port} cannot be listened on: {error.strerror}")
