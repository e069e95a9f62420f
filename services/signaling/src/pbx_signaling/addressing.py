"""What we write into Via and Contact, and the flows on which targets are reached.

Bind and advertised addresses are separate: the advertised one is given, never guessed (DESIGN: addressing).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pbx_signaling.call import wire
from pbx_sip.address import Flow, HostPort, Transport
from pbx_sip.errors import RemoteError
from pbx_sip.message.uri import Uri

if TYPE_CHECKING:
    from pbx_signaling.call.events import Target


@dataclass(slots=True)
class Listener:
    """One socket that listens, by the name that flows carry."""

    name: str
    transport: Transport
    advertised: HostPort


@dataclass(slots=True)
class Addressing:
    """The listeners of this instance by name, and its own id."""

    instance: str
    listeners: dict[str, Listener] = field(default_factory=dict)
    _vias: dict[str, str] = field(default_factory=dict)
    _contacts: dict[str, str] = field(default_factory=dict)

    def add(self, listener: Listener) -> None:
        """Takes a listener in."""
        self.listeners[listener.name] = listener
        where = listener.advertised
        transport = listener.transport
        self._vias[listener.name] = f"SIP/2.0/{transport.token} {where};rport;branch="
        parameter = "" if transport is Transport.UDP else f";transport={transport.name.lower()}"
        self._contacts[listener.name] = f"<sip:{self.instance}@{where}{parameter}>"

    def via(self, flow: Flow, branch: str) -> str:
        """A Via value for a request down a flow."""
        return self._vias[flow.listener] + branch

    def contact(self, flow: Flow) -> str:
        """Our Contact for a dialog over a flow."""
        return self._contacts[flow.listener]

    def is_ours(self, host: str, port: int) -> bool:
        """Whether an address is one that we advertise."""
        return any(listener.advertised == (host, port) for listener in self.listeners.values())

    def flow_of(self, target: Target) -> Flow:
        """The flow on which a binding is reached: its own, or that to the address its Contact names."""
        transport = Transport(target.transport)
        flow = Flow(transport, HostPort(target.host, target.port), target.listener, target.connection)
        if flow.listener not in self.listeners:
            flow = flow._replace(listener=self._listener_for(transport, target.host))
        if wire.is_flow_bound(target):
            return flow
        hop = target.path[0] if target.path else target.uri
        return wire.flow_to(_uri_within(hop), flow)

    def _listener_for(self, transport: Transport, host: str) -> str:
        wants_ipv6 = ":" in host
        for listener in self.listeners.values():
            if listener.transport is transport and (":" in listener.advertised.host) == wants_ipv6:
                return listener.name
        return next(iter(self.listeners))


def _uri_within(value: str) -> str:
    """The URI of a name-addr or of a bare URI."""
    start = value.find("<")
    return value[start + 1 : value.find(">", start)] if start >= 0 else value


def host_of(uri_text: str) -> str:
    """The host of a URI; empty where it has none."""
    try:
        return Uri.parse(uri_text).host
    except RemoteError:
        return ""
