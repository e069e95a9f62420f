"""What we write into Via and Contact, and the flows on which targets and next hops are reached.

Bind and advertised addresses are separate: the advertised one is given, never guessed (DESIGN: addressing).
Which next hops are followed is `next_hop`'s to say.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pbx_runtime.address_kind import parse
from pbx_signaling.replicas.peering import at, is_remote
from pbx_signaling.router.next_hop import NextHops
from pbx_sip.address import TRANSPORTS, Flow, HostPort, Transport
from pbx_sip.errors import RemoteError
from pbx_sip.message.uri import Uri

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from pbx_signaling.calls.signals import Target

ROUTES_MAX: Final = 4_096
"""Next hops kept for reuse. Threat: Contacts without end; the table starts anew beyond."""
CONNECTS: Final = (Transport.UDP, Transport.TCP, Transport.TLS)
"""Transports on which we can reach a peer that has not come to us (RFC 7118 section 3: WebSocket servers do not)."""

EPHEMERAL_PORTS: Final = 32_768
"""From here on systems choose the ports of connections that they make (Linux; others from 49152: RFC 6335 6)."""


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
    family: Collection[str] = ()
    """Those that share our addresses: over UDP any of them reaches whom one of them reaches."""
    hops: NextHops = field(default_factory=NextHops)
    """Which next hops are followed."""
    is_open: Callable[[Flow], bool] = lambda flow: True
    """Whether a connection of ours still stands."""
    _vias: dict[str, str] = field(default_factory=dict)
    _contacts: dict[tuple[str, bool], str] = field(default_factory=dict)
    _routes: dict[tuple[str, Flow], Flow | None] = field(default_factory=dict)

    def add(self, listener: Listener) -> None:
        """Takes a listener in."""
        self.listeners[listener.name] = listener
        self.note_own(listener.advertised.host, [listener.advertised.port])
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

    def note_own(self, host: str, ports: Iterable[int] = ()) -> None:
        """Notes an address of ours or of another replica, and ports on which we listen: no peer sends us there."""
        self.hops.note_own(host, ports)
        self._routes.clear()

    def via(self, flow: Flow, branch: str) -> str:
        """A Via value for a request down a flow."""
        return self._vias[flow.listener] + branch

    def contact(self, flow: Flow, secure: bool = False) -> str:
        """Our Contact for a dialog over a flow; a SIPS URI where the dialog was made by one (RFC 3261 12.1.1)."""
        return self._contacts[flow.listener, secure]

    def flow_of(self, target: Target) -> Flow:
        """The flow on which a binding is reached: its own, or that to the address its Path or Contact names.

        A connection carries it as long as it stands (RFC 5626). A phone that closed it is reached by another one at its
        Contact (RFC 3261 section 18.1.1), as far as that is followed.
        """
        flow = Flow(Transport(target.transport), HostPort(target.host, target.port), target.listener, target.connection)
        is_elsewhere = target.instance in self.peers and (bool(target.connection) or target.instance not in self.family)
        if target.connection and is_elsewhere:
            return self._through(target.instance, flow)
        own = flow if flow.listener in self.listeners else flow._replace(listener=self._own_listener(flow))
        if own.connection and self.is_open(own):
            return own
        named = self._named(self.first_hop(target), own._replace(connection=0))
        if named is not None:
            return named
        return self._through(target.instance, flow) if is_elsewhere else own

    def first_hop(self, target: Target) -> str:
        """The URI of the hop to a binding: of its Path where a proxy registered it (RFC 3327), else Contact."""
        is_routed = target.path and self.hops.are_of_proxy(target.host)
        return uri_within(target.path[0]) if is_routed else target.uri

    def own_flow(self, flow: Flow) -> Flow:
        """A flow by a name of ours, where another instance, or this one with other settings, called it otherwise."""
        if flow.listener in self.listeners:
            return flow
        own = self._listener_for(flow.transport, flow.remote.host) or next(iter(self.listeners))
        return flow._replace(listener=own)

    def take(self, instance: str, flow: Flow) -> Flow:
        """A flow of another instance, under the name by which this one can use it."""
        if instance in self.family and flow.transport is Transport.UDP and flow.listener in self.listeners:
            return flow
        return self._through(instance, flow)

    def _through(self, instance: str, flow: Flow) -> Flow:
        """Via and Contact are our own: the answer comes back up the flow, later requests find us or are handed on."""
        found = at(instance, flow)
        if found.listener not in self._vias:
            own = self._own_listener(flow)
            self._vias[found.listener] = self._vias[own]
            for secure in (False, True):
                self._contacts[found.listener, secure] = self._contacts[own, secure]
        return found

    def _own_listener(self, flow: Flow) -> str:
        """Our listener that is most like the one of a flow."""
        if flow.listener in self.listeners:
            return flow.listener
        return self._listener_for(flow.transport, flow.remote.host) or next(iter(self.listeners))

    def route(self, uri_text: str, default: Flow) -> Flow:
        """The flow to a next hop that the peer at the end of `default` named: there, or down `default`.

        Connections are kept as long as they stand: what came over one goes back over it (RFC 5626). A transport that
        the URI does not name is that of `default`.
        """
        if is_remote(default):
            return default
        if default.connection:
            if self.is_open(default):
                return default
            return self._named(uri_text, default._replace(connection=0)) or default
        return self._named(uri_text, default) or default

    def names_hop(self, uri_text: str, flow: Flow) -> bool:
        """Whether a URI of the peer at the end of a flow says where to send; else that is the flow alone, as for
        phones behind a NAT and on connections."""
        return not flow.connection and not is_remote(flow) and self._named(uri_text, flow) is not None

    def anew(self, uri_text: str, gone: Flow) -> Flow | None:
        """The flow to a peer whose connection is gone, ours or another replica's: to the address that its URI names."""
        if not gone.connection:
            return None
        flow = gone._replace(listener=gone.listener.partition("@")[0], connection=0)
        return self._named(uri_text, flow._replace(listener=self._own_listener(flow)))

    def can_reach(self, uri_text: str, flow: Flow) -> bool:
        """Whether the peer at the end of a connection can be reached, at a URI of its own, by one that we make.

        Not where the URI names the port of its end of the connection, unless that is one to listen on: the system chose
        it, and it is gone with the connection.
        """
        if flow.transport not in CONNECTS:
            return False
        found = self._named(uri_text, flow._replace(connection=0))
        return found is not None and (found.remote.port != flow.remote.port or found.remote.port < EPHEMERAL_PORTS)

    def _named(self, uri_text: str, default: Flow) -> Flow | None:
        key = (uri_text, default)
        try:
            return self._routes[key]
        except KeyError:
            if len(self._routes) >= ROUTES_MAX:
                self._routes.clear()
            found = self._routes[key] = self._hop(uri_text, default)
            return found

    def reliable_twin(self, flow: Flow) -> Flow | None:
        """The TCP flow to the same address as a UDP flow (RFC 3261 section 18.1.1); None where we have no TCP."""
        listener = self._listener_for(Transport.TCP, flow.remote.host)
        return None if listener is None else Flow(Transport.TCP, flow.remote, listener)

    def _hop(self, uri_text: str, default: Flow) -> Flow | None:
        try:
            uri = Uri.parse(uri_text)
        except RemoteError:
            return None
        address = parse(uri.host)
        if address is None:
            return None
        is_named = uri.scheme == "sips" or (uri.params.get("transport") or "").lower() in TRANSPORTS
        transport = uri.transport if is_named else default.transport
        # One address has many spellings, and zones that only the source can know.
        host = default.remote.host if address == parse(default.remote.host) else str(address)
        remote = HostPort(host, uri.port or transport.default_port)
        if not self.hops.admits(remote, default.remote) or (default.transport.secure and not transport.secure):
            return None
        listener = self._listener_for(transport, host) if transport in CONNECTS else None
        if listener is None:
            return None
        if transport is default.transport and (":" in host) == (":" in default.remote.host):
            listener = default.listener
        return Flow(transport, remote, listener)

    def _listener_for(self, transport: Transport, host: str) -> str | None:
        wants_ipv6 = ":" in host
        for listener in self.listeners.values():
            if listener.transport is transport and listener.name.endswith("6") == wants_ipv6:
                return listener.name
        return None


def uri_within(value: str) -> str:
    """The URI of a name-addr or of a bare URI."""
    start = value.find("<")
    return value[start + 1 : value.find(">", start)] if start >= 0 else value
