"""The sockets that a sidecar listens on."""

from __future__ import annotations

import socket

from moderation.config import Config
from moderation.errors import UsageError


def listeners(config: Config) -> list[socket.socket]:
    """Sockets for all ports of a configuration, the main one first. Raises UsageError."""
    ports = config.ports if config.admin_port is None else (*config.ports, config.admin_port)
    try:
        return bind(config.host, tuple(dict.fromkeys(ports)))
    except OSError as error:
        raise UsageError(f"{error.strerror}; choose another with --port") from None


def address(config: Config, sockets: list[socket.socket]) -> str:
    """Where the main port is to be reached."""
    host = f"[{config.host}]" if ":" in config.host else config.host
    return f"http://{host}:{sockets[0].getsockname()[1]}"


def pages_off(config: Config) -> bool:
    """Whether nobody can see the pages for operators."""
    return not config.loopback and (config.admin_port is None or config.admin_token is None)


def bind(host: str, ports: tuple[int, ...]) -> list[socket.socket]:
    """Listening sockets; raises OSError with the port in its text."""
    sockets: list[socket.socket] = []
    for port in ports:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        one = socket.socket(family, socket.SOCK_STREAM)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind((host, port))
        except OSError as error:
            one.close()
            raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}") from None
        one.set_inheritable(True)
        sockets.append(one)
    return sockets
