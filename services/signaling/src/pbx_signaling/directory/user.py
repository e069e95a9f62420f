"""A user as the registrar told it: account, credentials, bindings. Frozen; no generated type."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pbx_signaling.calls.signals import Target

if TYPE_CHECKING:
    from pbx_sip.auth.proof import Secrets


@dataclass(frozen=True, slots=True)
class Binding:
    """One way to reach a user."""

    uri: str
    path: tuple[str, ...]
    transport: int
    """Number of the transport in the contract; 0 where it is not known."""
    host: str
    port: int
    listener: str
    connection: int
    instance: str
    unreachable: bool
    """Its phone does not answer any more, so far as is known."""
    expires_at_ms: int
    """Milliseconds since the Unix epoch."""
    q_thousandths: int = 1000
    """Preference, 0 to 1000."""
    sip_instance: str = ""
    """Names the phone (RFC 5626); empty where it does not."""

    def target(self, aor: str) -> Target:
        """Where a call to `aor` goes by this binding."""
        return Target(
            uri=self.uri,
            aor=aor,
            path=self.path,
            transport=self.transport,
            host=self.host,
            port=self.port,
            listener=self.listener,
            connection=self.connection,
            instance=self.instance,
            unreachable=self.unreachable,
            q_thousandths=self.q_thousandths,
            sip_instance=self.sip_instance,
        )


@dataclass(frozen=True, slots=True)
class User:
    """All that is known of an address-of-record."""

    aor: str
    display_name: str
    calls_max: int
    """Calls that it may make at once; 0: as many as accounts without a limit of their own."""
    secrets: Secrets = field(repr=False)
    bindings: tuple[Binding, ...]
    """In the order in which they are tried. Some may have run out."""

    @property
    def user(self) -> str:
        """The account's user name."""
        return self.secrets.user

    def bindings_at(self, now_ms: float) -> list[Binding]:
        """Those that have not run out."""
        return [binding for binding in self.bindings if binding.expires_at_ms > now_ms]


@dataclass(frozen=True, slots=True)
class News:
    """What one message of the stream says of an address-of-record."""

    aor: str
    user: User | None = None
    """None: there is no such account."""
    failed: bool = False
    """It could not be read and is not followed: what was known of it is in doubt."""


@dataclass(frozen=True, slots=True)
class Update:
    """One message of the stream."""

    revision: int
    """Its number, from 1."""
    doubt: bool
    """All that was told before may be old."""
    told: tuple[News, ...]
