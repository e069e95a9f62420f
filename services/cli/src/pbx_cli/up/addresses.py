"""Addresses of this machine: what to tell phones, which ports are free. Reads the system, changes nothing."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import random
import socket
from collections.abc import Callable, Container
from pathlib import Path

from pbx_cli.errors import CliError
from pbx_runtime.address import Listen

LOOPBACK = "127.0.0.1"
_PROBE = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
"""Documentation addresses (RFC 5737, RFC 3849): a connected UDP socket asks the routing table and sends nothing."""
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST_PORT = 10_000
_ATTEMPTS = 500


def advertised_address(explicit: str, sip: Listen) -> str:
    """What phones are told: the explicit address, else the bound one, else that of the default route.

    Raises CliError where the explicit one is no address literal (it is written into SIP and SDP).
    """
    if explicit:
        try:
            return str(ipaddress.ip_address(explicit.strip("[]")))
        except ValueError:
            raise CliError(f"--advertise: {explicit!r} is not an IP address") from None
    if sip.host == "localhost":
        return LOOPBACK
    if not sip.is_wildcard:
        return sip.host
    return _default_route_address(socket.AF_INET6 if ":" in sip.host else socket.AF_INET)


def advertised_addresses(explicit: str, sip: Listen, ipv6: Listen | None) -> str:
    """The same for both families, comma-separated: `explicit` may name one of each. Raises CliError."""
    named = [part.strip() for part in explicit.split(",") if part.strip()]
    if ipv6 is None and len(named) < 2:
        return advertised_address(explicit, sip)
    first = [part for part in named if ":" not in part]
    second = [part for part in named if ":" in part]
    if ipv6 is None or len(first) > 1 or len(second) > 1:
        raise CliError(f"--advertise: {explicit!r} is more than one address of each family that is served")
    return f"{advertised_address(''.join(first), sip)},{advertised_address(''.join(second), ipv6)}"


def _default_route_address(family: socket.AddressFamily) -> str:
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((_PROBE[family], 9))
        except OSError:  # no default route: nobody but this machine can call
            return LOOPBACK if family == socket.AF_INET else "::1"
        return str(probe.getsockname()[0])


def check_free(listen: Listen, what: str, option: str, *, udp: bool) -> None:
    """Raise CliError where the address cannot be bound, naming the option that changes it."""
    kinds = (socket.SOCK_STREAM, socket.SOCK_DGRAM) if udp else (socket.SOCK_STREAM,)
    for kind in kinds:
        try:
            _bind_once(listen, kind)
        except OSError as error:
            name = "UDP" if kind == socket.SOCK_DGRAM else "TCP"
            raise CliError(f"cannot listen on {listen} ({name}, {what}): {_reason(error, option)}") from None


def _reason(error: OSError, option: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"the port is taken; stop what uses it, or choose another with {option}"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"this machine has no such address; choose another with {option}"
    if error.errno == errno.EACCES:
        return f"not allowed; run as root, or choose a port above 1023 with {option}"
    return f"{error.strerror or error}; see {option}"


def _bind_once(listen: Listen, kind: socket.SocketKind) -> None:
    family, _, _, _, address = socket.getaddrinfo(listen.host, listen.port, type=kind, flags=socket.AI_PASSIVE)[0]
    with socket.socket(family, kind) as probe:
        if kind == socket.SOCK_STREAM:
            # As the servers do: connections of an earlier run in TIME_WAIT are no obstacle.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        if kind == socket.SOCK_STREAM:
            probe.listen(1)


def _random_port(first: int, last: int) -> int:
    return random.randint(first, last)  # noqa: S311 -- keeps parallel runs apart, protects nothing


class FreePorts:
    """Hands out TCP ports of loopback that are free now, each once, outside the ephemeral range.

    Below that range no outgoing connection can take the port while its service restarts.
    """

    def __init__(self, avoid: Container[int], choose: Callable[[int, int], int] = _random_port) -> None:
        self._avoid = avoid
        self._choose = choose
        self._given: set[int] = set()
        self._highest = _ephemeral_start() - 1

    def take(self) -> Listen:
        """A free port on loopback. Raises CliError where there is none."""
        for _ in range(_ATTEMPTS):
            listen = Listen(LOOPBACK, self._choose(_LOWEST_PORT, self._highest))
            if listen.port in self._avoid or listen.port in self._given:
                continue
            with contextlib.suppress(OSError):
                _bind_once(listen, socket.SOCK_STREAM)
                self._given.add(listen.port)
                return listen
        raise CliError(f"no free port between {_LOWEST_PORT} and {self._highest} on {LOOPBACK}")


def _ephemeral_start() -> int:
    try:
        start = int(_EPHEMERAL.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return 32_768
    return start if start > _LOWEST_PORT + _ATTEMPTS else 65_536
