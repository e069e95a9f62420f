"""All sockets of the SIP ports: made from the settings, started together, found by the name that a flow carries."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pbx_runtime import logs
from pbx_signaling.border.trust import Trust
from pbx_signaling.router.addressing import Listener
from pbx_signaling.transport.inherited import Inherited
from pbx_signaling.transport.limits import Budget, Limits
from pbx_signaling.transport.pipe import Pipe, SipPipe
from pbx_signaling.transport.stream import Pipes, StreamListener
from pbx_signaling.transport.tls import Certificates, TlsFiles, TlsPipe
from pbx_signaling.transport.udp import UdpListener
from pbx_signaling.transport.websocket import WebSocketPipe
from pbx_sip.address import HostPort, Transport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pbx_runtime.address import Listen
    from pbx_signaling.router.addressing import Addressing
    from pbx_signaling.settings import SignalingSettings
    from pbx_sip.address import Flow

RELOAD_S: Final = 10.0
"""How often the certificate's files are looked at."""

_log = logs.get_logger("transport")


class SipPipes:
    """SIP straight over TCP."""

    def accepted(self) -> Pipe:
        """See Pipes."""
        return SipPipe()

    def made(self, remote: HostPort) -> Pipe | None:
        """See Pipes."""
        return SipPipe()


class TlsPipes:
    """SIP over TLS, with the certificate in force."""

    def __init__(self, certificates: Certificates) -> None:
        self._certificates = certificates

    def accepted(self) -> Pipe:
        """See Pipes."""
        return TlsPipe(SipPipe(), self._certificates.server())

    def made(self, remote: HostPort) -> Pipe | None:
        """See Pipes."""
        return TlsPipe(SipPipe(), self._certificates.client(), remote.host)


class WebSocketPipes:
    """RFC 7118 section 3: clients connect, servers do not."""

    def __init__(self, origins: Sequence[str], certificates: Certificates | None) -> None:
        self._origins = origins
        self._certificates = certificates

    def accepted(self) -> Pipe:
        """See Pipes."""
        pipe = WebSocketPipe(self._origins)
        return pipe if self._certificates is None else TlsPipe(pipe, self._certificates.server())

    def made(self, remote: HostPort) -> Pipe | None:
        """See Pipes."""
        return None


class Listeners:
    """The SIP ports of one instance."""

    def __init__(
        self,
        settings: SignalingSettings,
        addressing: Addressing,
        receiver: Callable[[bytes, Flow], None],
        broken: Callable[[Flow], None],
        keeps: Callable[[Flow], bool],
    ) -> None:
        self.by_name: dict[str, UdpListener | StreamListener] = {}
        self.budget = Budget(
            Limits(
                connections_max=settings.sip_connections_max,
                per_source_max=settings.sip_connections_per_source,
                idle_s=settings.sip_idle_s,
            ),
            Trust(settings.sip_trusted).covers,
        )
        self.certificates: Certificates | None = None
        self.reload_failures = 0
        self._settings = settings
        self._inherited = Inherited.parse(settings.sip_sockets)
        self._addressing = addressing
        self._receiver = receiver
        self._broken = broken
        self._keeps = keeps
        self._reload_timer: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        """Opens them all; UDP last, for its readers begin at once. Raises OSError that names the address."""
        settings = self._settings
        self.certificates = _certificates(settings)
        udps: list[UdpListener] = []
        for listen in settings.sip_listen:
            name, inherited = self._name(Transport.UDP, listen), self._inherited.udp(listen)
            udp = UdpListener(name, listen.host, listen.port, self._receiver, inherited)
            udps.append(udp)
            self._add(udp.name, Transport.UDP, udp, HostPort(settings.advertised_for(listen), udp.address.port))
            # TCP takes the same port, which matters where the kernel chose it.
            await self._stream(Transport.TCP, type(listen)(listen.host, udp.address.port), SipPipes())
        for transport, listens in self._streams():
            for listen in listens:
                await self._stream(transport, listen, self._pipes(transport))
        for udp in udps:
            udp.start()
        if self.certificates is not None:
            self._reload_timer = asyncio.get_running_loop().call_later(RELOAD_S, self._reload)

    def _streams(self) -> tuple[tuple[Transport, Sequence[Listen]], ...]:
        settings = self._settings
        return (
            (Transport.TLS, settings.sip_tls_listen),
            (Transport.WS, settings.sip_ws_listen),
            (Transport.WSS, settings.sip_wss_listen),
        )

    def _pipes(self, transport: Transport) -> Pipes:
        origins = self._settings.sip_ws_origins
        if transport is Transport.WS:
            return WebSocketPipes(origins, None)
        assert self.certificates is not None
        return TlsPipes(self.certificates) if transport is Transport.TLS else WebSocketPipes(origins, self.certificates)

    async def _stream(self, transport: Transport, listen: Listen, pipes: Pipes) -> None:
        name = self._name(transport, listen)
        inherited = self._inherited.stream(transport, listen)
        listener = StreamListener(
            name, transport, listen, pipes, self.budget, self._receiver, self._broken, self._keeps, inherited
        )
        await listener.start()
        self._add(name, transport, listener, HostPort(self._settings.advertised_for(listen), listener.address.port))

    def _add(
        self, name: str, transport: Transport, listener: UdpListener | StreamListener, advertised: HostPort
    ) -> None:
        self.by_name[name] = listener
        self._addressing.add(Listener(name, transport, advertised))
        _log.info("SIP port open", transport=name, listen=str(listener.address), advertised=str(advertised))

    def _name(self, transport: Transport, listen: Listen) -> str:
        """What flows call a listener: "udp4", "tls6"; a second one of its kind "udp2-4". The last figure is the family.

        One name each, so that what came by one address is answered from it.
        """
        kind, family = transport.name.lower(), "6" if ":" in listen.host else "4"
        names = (f"{kind}{f'{number}-' if number > 1 else ''}{family}" for number in itertools.count(1))
        return next(name for name in names if name not in self.by_name)

    def send(self, data: bytes, flow: Flow) -> bool:
        """Sends a message down a flow; False where it is gone, or the kernel did not take it."""
        listener = self.by_name.get(flow.listener)
        return listener is not None and listener.send(data, flow)

    def is_open(self, flow: Flow) -> bool:
        """Whether the connection of a flow stands."""
        listener = self.by_name.get(flow.listener)
        return isinstance(listener, StreamListener) and listener.holds(flow.connection)

    def take_no_more(self) -> None:
        """New connections are left to the processes that share our ports."""
        for listener in self.by_name.values():
            if isinstance(listener, StreamListener):
                listener.take_no_more()

    def _reload(self) -> None:
        assert self.certificates is not None
        try:
            if self.certificates.reload_if_changed():
                _log.info("certificate read again", not_after=self.certificates.not_after)
        except OSError as error:
            self.reload_failures += 1
            _log.error("certificate cannot be read, the old one stays", reason=str(error))
        self._reload_timer = asyncio.get_running_loop().call_later(RELOAD_S, self._reload)

    def close(self) -> None:
        """Closes them all, and every connection."""
        if self._reload_timer is not None:
            self._reload_timer.cancel()
        for listener in self.by_name.values():
            listener.close()


def _certificates(settings: SignalingSettings) -> Certificates | None:
    """Raises OSError that names the files."""
    cert, key = settings.sip_tls_cert, settings.sip_tls_key
    if cert is None or key is None:
        return None
    files = TlsFiles(cert, key, settings.sip_tls_client_ca, settings.sip_tls_client_certs, settings.sip_tls_trust)
    try:
        return Certificates(files)
    except OSError as error:
        raise OSError(error.errno, f"cannot use the certificate {cert} with the key {key}: {error}") from error
