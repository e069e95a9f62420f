"""What `sip-pbx up` is asked for, checked. Every mistake is told with the option that it was made in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pbx_cli.errors import EXIT_USAGE, CliError
from pbx_cli.up.sip_ports import MorePorts, SipPort
from pbx_cli.up.steering import REPLICAS_MAX
from pbx_runtime.address import PORT_MAX, Listen

SLOT_PORTS = 8
"""Ports of one call in the relay."""
_USER = re.compile(r"[A-Za-z0-9._+-]{1,64}\Z")
_DOMAIN = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?\Z")


@dataclass(frozen=True, slots=True)
class AccountWish:
    """An account to create."""

    user: str
    password: str
    """Empty: made once, and kept in the data directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpOptions:
    """The command line of `up`."""

    sip: Listen
    advertise: str
    """Empty: found out by `advertised_address`."""
    http: Listen
    relay_ports: tuple[int, int]
    data: Path
    accounts: tuple[AccountWish, ...]
    domain: str
    replicas: int
    as_json: bool
    accounts_file: str = ""
    """Where some of them were read from."""
    in_argv: bool = False
    """Whether some of their passwords stood in the command line."""
    metrics: Listen | None = None
    """Where the registrar shows its metrics; the relay and signaling on the ports behind. None: on free ports."""
    more: MorePorts = field(default_factory=MorePorts)
    """SIP over TLS, WebSocket, IPv6."""

    @property
    def sip_ports(self) -> Iterator[tuple[str, SipPort]]:
        """Option and port of everything where SIP is served."""
        for transport in ("udp", "tcp"):
            yield "--sip", SipPort(transport, self.sip)
            if self.more.ipv6 is not None:
                yield "--sip-ipv6", SipPort(transport, self.more.ipv6)
        for option, kind, listen in self.more.listens():
            if kind != "ipv6":
                yield option, SipPort(kind, listen)


def parse_listen(option: str, text: str) -> Listen:
    """Read host:port of an option. Raises CliError that names the option."""
    try:
        listen = Listen.parse(text)
    except ValueError as error:
        raise CliError(f"{option}: {error}", EXIT_USAGE) from None
    if not listen.port:
        raise CliError(f"{option}: port 0 has no meaning here; name a port", EXIT_USAGE)
    return listen


def parse_relay_ports(text: str) -> tuple[int, int]:
    """Read FIRST-LAST. Raises CliError."""
    match = re.fullmatch(r"(\d{1,5})-(\d{1,5})", text)
    if match is None:
        raise CliError(f"--relay-ports: {text!r} is not FIRST-LAST (for example 30000-39999)", EXIT_USAGE)
    first, last = int(match[1]), int(match[2])
    if not 1024 <= first <= last <= PORT_MAX or (last + 1) // SLOT_PORTS <= -(-first // SLOT_PORTS):
        message = f"--relay-ports: {text} must lie between 1024 and {PORT_MAX} and hold {SLOT_PORTS} aligned ports"
        raise CliError(message, EXIT_USAGE)
    return first, last


def parse_account(text: str) -> AccountWish:
    """Read USER:PASSWORD, or USER alone. Raises CliError (without the password)."""
    user, _, password = text.partition(":")
    if not _USER.match(user):
        raise CliError("--account: USER must be 1 to 64 letters, digits or . _ + - (USER:PASSWORD)", EXIT_USAGE)
    return AccountWish(user, password)


def parse_domain(text: str) -> str:
    """Read a domain or an IP address. Raises CliError."""
    if not _DOMAIN.match(text):
        raise CliError(f"--domain: {text!r} is no domain name", EXIT_USAGE)
    return text.lower()


def check_apart(sip: Listen, http: Listen, relay_ports: tuple[int, int]) -> None:
    """Check that no server of ours stands in the way of another. Raises CliError."""
    first, last = relay_ports
    if first <= sip.port <= last:
        raise CliError(f"--sip: port {sip.port} lies inside --relay-ports {first}-{last}; move one of them", EXIT_USAGE)
    if http.port == sip.port:
        raise CliError(f"--http: port {http.port} is a SIP port too; choose another", EXIT_USAGE)


def check_replicas(count: int) -> int:
    """Check the number of signaling processes. Raises CliError."""
    if not 1 <= count <= REPLICAS_MAX:
        raise CliError(f"--replicas: {count} is not between 1 and {REPLICAS_MAX}", EXIT_USAGE)
    return count
