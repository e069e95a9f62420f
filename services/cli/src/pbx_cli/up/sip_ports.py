"""SIP beside UDP and TCP over IPv4: TLS, WebSocket, IPv6. What `sip-pbx up` is asked for, checked, and as settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pbx_cli.errors import EXIT_USAGE, CliError
from pbx_runtime.address import Listen


class SipPort(NamedTuple):
    """An address at which SIP is served over one transport."""

    transport: str
    """"udp", "tcp", "tls", "ws" or "wss"."""
    listen: Listen


@dataclass(frozen=True, slots=True, kw_only=True)
class MorePorts:
    """More SIP ports. With `ipv6` each of the others is served on that address too."""

    ipv6: Listen | None = None
    tls: Listen | None = None
    ws: Listen | None = None
    wss: Listen | None = None
    certificate: Path | None = None
    key: Path | None = None
    self_signed: bool = False

    @property
    def needs_certificate(self) -> bool:
        """Whether TLS is spoken."""
        return self.tls is not None or self.wss is not None

    def check(self) -> None:
        """Raises CliError that names the options."""
        if self.ipv6 is not None and ":" not in self.ipv6.host:
            raise CliError(f"--sip-ipv6: {self.ipv6} is no IPv6 address; write [::]:5060", EXIT_USAGE)
        if (self.certificate is None) != (self.key is None):
            raise CliError("--tls-cert and --tls-key go together", EXIT_USAGE)
        if self.needs_certificate and self.certificate is None and not self.self_signed:
            raise CliError(
                "--sip-tls and --sip-wss need --tls-cert FILE and --tls-key FILE, or --tls-self-signed for a first try",
                EXIT_USAGE,
            )

    def listens(self) -> Iterator[tuple[str, str, Listen]]:
        """Option, kind ("tls") and address of each port."""
        if self.ipv6 is not None:
            yield "--sip-ipv6", "ipv6", self.ipv6
        for option, kind, listen in (
            ("--sip-tls", "tls", self.tls),
            ("--sip-ws", "ws", self.ws),
            ("--sip-wss", "wss", self.wss),
        ):
            if listen is None:
                continue
            yield option, kind, listen
            if self.ipv6 is not None and ":" not in listen.host:
                yield option, kind, Listen(self.ipv6.host, listen.port)

    def environment(self, certificate: tuple[Path, Path] | None) -> Mapping[str, str]:
        """Settings of signaling, but for PBX_SIP_LISTEN and PBX_ADVERTISE."""
        found: dict[str, list[str]] = {}
        for _, kind, listen in self.listens():
            if kind != "ipv6":
                found.setdefault(f"PBX_SIP_{kind.upper()}_LISTEN", []).append(str(listen))
        settings = {name: ",".join(values) for name, values in found.items()}
        if certificate is not None:
            settings |= {"PBX_SIP_TLS_CERT": str(certificate[0]), "PBX_SIP_TLS_KEY": str(certificate[1])}
        return settings


def check_sip_ports(ports: MorePorts, taken: Mapping[int, str], relay_ports: tuple[int, int]) -> None:
    """Check that no port is taken (`taken`: TCP ports and their options) or the relay's. Raises CliError."""
    first, last = relay_ports
    used = dict(taken)
    for option, kind, listen in ports.listens():
        if first <= listen.port <= last:
            raise CliError(f"{option}: port {listen.port} lies inside --relay-ports {first}-{last}", EXIT_USAGE)
        other = used.get(listen.port)
        if kind != "ipv6" and other is not None and other != option:
            raise CliError(f"{option}: port {listen.port} is asked for twice", EXIT_USAGE)
        if kind != "ipv6":
            used[listen.port] = option
