"""`Listen` and `UnixSocket`: where a server listens, as settings write it."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, PlainValidator
from pydantic_core import CoreSchema, core_schema

PORT_MAX = 65535
SOCKET_PATH_MAX = 107
"""Octets of a unix socket's path: the 108 of sockaddr_un(7) without the NUL at the end."""
UNIX = "unix:"


@dataclass(frozen=True, slots=True)
class Listen:
    """Where a server listens, or where a peer is. `str()` gives the form that `parse` reads."""

    host: str
    """A name, an IPv4 literal or an IPv6 literal without brackets."""
    port: int
    """0 lets the kernel choose."""

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_wildcard(self) -> bool:
        """Whether it means every address of the machine."""
        return self.host in ("0.0.0.0", "::")  # noqa: S104 -- compared, not bound

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @classmethod
    def parse(cls, text: str) -> Listen:
        """Read `host:port` or `[address]:port`. Raises ValueError that shows the form wanted.

        Brackets are for either family: in a pod `[$(PBX_POD_IP)]:9102` is written before the family is known.
        """
        host, colon, port = text.strip().rpartition(":")
        if not colon or not port.isascii() or not port.isdigit() or int(port) > PORT_MAX:
            raise ValueError(f"{text!r} is not host:port (for example 127.0.0.1:8080 or [::1]:8080)")
        if host.startswith("[") and host.endswith("]"):
            return cls(str(ipaddress.ip_address(host[1:-1])), int(port))
        if not host or set(host) & set(":[]"):
            raise ValueError(f"{text!r} is not host:port; an IPv6 address needs brackets: [::1]:8080")
        return cls(host, int(port))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: type[Any], handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, Listen) else cls.parse(str(value)),
            serialization=core_schema.to_string_ser_schema(),
        )


@dataclass(frozen=True, slots=True)
class UnixSocket:
    """A socket in the file system: whoever may search its directory may connect. `str()` gives gRPC's target."""

    path: str
    """Absolute."""

    def __str__(self) -> str:
        return f"{UNIX}//{self.path}"

    @classmethod
    def parse(cls, text: str) -> UnixSocket:
        """Read `unix:PATH` or `unix:///PATH`. Raises ValueError for a path that is not absolute, or is too long."""
        path = text.strip().removeprefix(UNIX)
        path = path.removeprefix("//") if path.startswith("///") else path
        if not path.startswith("/") or path.startswith("//") or "\0" in path:
            raise ValueError(f"{text!r} is not unix:/absolute/path")
        if len(os.fsencode(path)) > SOCKET_PATH_MAX:
            raise ValueError(f"{path} is longer than the {SOCKET_PATH_MAX} octets that a unix socket's path may have")
        return cls(path)


def parse_place(value: object) -> Listen | UnixSocket:
    """Read `host:port` or `unix:/path`. Raises ValueError."""
    if isinstance(value, Listen | UnixSocket):
        return value
    text = str(value)
    return UnixSocket.parse(text) if text.strip().startswith(UNIX) else Listen.parse(text)


Place = Annotated[Listen | UnixSocket, PlainValidator(parse_place)]
"""Field type of a setting that takes both."""
