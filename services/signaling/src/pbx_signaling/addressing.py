"""What we write into Via and Contact, and the flows on which targets and next hops are reached.

Bind and advertised addresses are separate: the advertised one is given, never guessed (DESIGN: addressing).
Deliberately no DNS: a next hop that is named, not an address literal, is reached down the flow that is known.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pbx_signaling.call import wire
from pbx_signaling.peering import at, is_remote
from pbx_sip.address import TRANSPORTS, Flow, HostPort, Transport
from pbx_sip.errors import RemoteError
from pbx_sip.message.uri import Uri

if TYPE_CHECKING:
    from collections.abc import Collection

    from pbx_signaling.call.events import Target

ROUTES_MAX: Final = 4_096
"""Next hops kept for reuse. Threat: Contacts without end; the table starts anew beyond."""
CONNECTS: Final = (Transport.UDP, Transport.TCP, Transport.TLS)
"""Transports on which we can reach a peer that has not come to us (RFC 7118 section 3: WebSocket servers do not)."""


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
    peers: Collection[str] = ()
    """Other instances that live: a phone that is bound to a flow of theirs is reached through them."""
    _vias: dict[str, str] = field(default_factory=dict)
    _contacts: dict[tuple[str, bool], str] = field(default_factory=dict)
    _routes: dict[tuple[str, Flow], Flow] = field(default_factory=dict)

    def add(self, listener: Listener) -> None:
        """Takes a listener in."""
        self.listeners[listener.name] = listener
        where, transport = listener.advertised, listener.transport
        self._vias[listener.name] = f"SIP/2.0/{transport.token} {where};rport;branch="
        address = f"{self.instance}@{where}"
        # RFC 7118 section 5.1: "ws" for both; sips tells secure WebSocket. TLS is implied by sips (RFC 3261 26.2.2).
        word = "ws" if transport is Transport.WSS else transport.name.lower()
        parameter = "" if transport is Transport.UDP else f";transport={word}"
        secure_parameter = "" if transport is Transport.TLS else parameter
        self._contacts[listener.name, False] = f"<sip:{address}{parameter}>"
        scheme = "sips" if transport.secure else "sip"
        self._contacts[listener.name, True] = f"<{scheme}:{address}{secure_parameter}>"

    def via(self, flow: Flow, branch: str) -> str:
        """A Via value for a request down a flow."""
        return self._vias[flow.listener] + branch

    def contact(self, flow: Flow, secure: bool = False) -> str:
        """Our Contact for a dialog over a flow; a SIPS URI where the dialog was made by one (RFC 3261 12.1.1)."""
        return self._contacts[flow.listener, secure]

    def flow_of(self, target: Target) -> Flow:
        """The flow on which a binding is reached: its own, or that to the address its Path or Contact names."""
        transport = Transport(target.transport)
        flow = Flow(transport, HostPort(target.host, target.port), target.listener, target.connection)
        if target.instance in self.peers and wire.is_flow_bound(target):
            return self._through(target.instance, flow)
        if flow.listener not in self.listeners:
            flow = flow._replace(listener=self._listener_for(transport, target.host) or next(iter(self.listeners)))
        if wire.is_flow_bound(target):
            return flow
        return self.route(_uri_within(target.path[0] if target.path else target.uri), flow)

    def take(self, instance: str, flow: Flow) -> Flow:
        """A flow of another instance, under the name by which this one can use it."""
        return self._through(instance, flow)

    def _through(self, instance: str, flow: Flow) -> Flow:
        """Via and Contact are our own: the answer comes back up the flow, later requests find us or are handed on."""
        found = at(instance, flow)
        if found.listener not in self._vias:
            own = flow.listener if flow.listener in self.listeners else None
            own = own or self._listener_for(flow.transport, flow.remote.host) or next(iter(self.listeners))
            self._vias[found.listener] = self._vias[own]
            for secure in (False, True):
                self._contacts[found.listener, secure] = self._contacts[own, secure]
        return found

    def route(self, uri_text: str, default: Flow) -> Flow:
        """The flow to a next hop: to the address and over the transport that the URI names, else `default`.

        Connections are kept: what came over one goes back over it (RFC 5626). A transport that the URI does not name
        is that of `default`.
        """
        if default.connection or is_remote(default):
            return default
        key = (uri_text, default)
        found = self._routes.get(key)
        if found is None:
            if len(self._routes) >= ROUTES_MAX:
                self._routes.clear()
            found = self._routes[key] = self._hop(uri_text, default)
        return found

    def reliable_twin(self, flow: Flow) -> Flow | None:
        """The TCP flow to the same address as a UDP flow (RFC 3261 section 18.1.1); None where we have no TCP."""
        listener = self._listener_for(Transport.TCP, flow.remote.host)
        return None if listener is None else Flow(Transport.TCP, flow.remote, listener)

    def _hop(self, uri_text: str, default: Flow) -> Flow:
        try:
            uri = Uri.parse(uri_text)
        except RemoteError:
            return default
        if not uri.host or not wire.is_literal(uri.host):
            return default
        is_named = uri.scheme == "sips" or (uri.params.get("transport") or "").lower() in TRANSPORTS
        transport = uri.transport if is_named else default.transport
        listener = self._listener_for(transport, uri.host) if transport in CONNECTS else None
        if listener is None:
            return default
        if transport is default.transport and (":" in uri.host) == (":" in default.remote.host):
            listener = default.listener
        return Flow(transport, HostPort(uri.host, uri.port or transport.default_port), listener)

    def _listener_for(self, transport: Transport, host: str) -> str | None:
        wants_ipv6 = ":" in host
        for listener in self.listeners.values():
            if listener.transport is transport and listener.name.endswith("6") == wants_ipv6:
                return listener.name
        return None


def _uri_within(value: str) -> str:
    """The URI of a name-addr or of a bare URI."""
    start = value.find("<")
    return value[start + 1 : value.find(">", start)] if start >= 0 else value
