"""SIP over TCP: connections taken and made, each with a number that its flows carry (RFC 3261 section 18, RFC 5626).

What came over a connection is answered over it. To an address without a connection one is made, and what is sent
meanwhile waits. A connection that says nothing, or never ends a message, is closed.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Final, cast

from pbx_runtime import logs
from pbx_sip.address import Flow, HostPort, Transport
from pbx_sip.message.framing import KeepAlive, StreamFramer

CONNECTIONS_MAX: Final = 10_000
"""Threat: descriptors. A phone has one."""
PER_HOST_MAX: Final = 500
"""Connections of one address: an office behind a NAT, but not a flood."""
IDLE_S: Final = 900.0
"""Without any octet; phones keep alive every two minutes or so (RFC 5626 section 4.4.1)."""
PARTIAL_S: Final = 15.0
"""For one message to come whole. Threat: slow loris."""
UNSENT_MAX: Final = 262_144
"""Octets that a peer does not take. Beyond, it is dead or hostile: the connection is closed."""
WAITING_MAX: Final = 64
"""Messages that wait for a connection to be made."""
CONNECT_S: Final = 5.0
SWEEP_S: Final = 5.0

_log = logs.get_logger("tcp")


class Connection(asyncio.Protocol):
    """One connection."""

    def __init__(self, listener: TcpListener, number: int) -> None:
        self.number = number
        self.flow: Flow | None = None
        self.heard = 0.0
        self.partial_since: float | None = None
        self._listener = listener
        self._framer = StreamFramer()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It stands."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class, with the same methods
        self._transport.set_write_buffer_limits(high=UNSENT_MAX)
        peer = transport.get_extra_info("peername")
        self.flow = Flow(Transport.TCP, HostPort(peer[0], peer[1]), self._listener.name, self.number)
        self.heard = self._listener.now
        if not self._listener.admit(self):
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Octets came."""
        self.heard = self._listener.now
        for item in self._framer.receive(data):
            if item is KeepAlive.PING:
                self.write(b"\r\n")
            elif isinstance(item, bytes) and self.flow is not None:
                self._listener.receiver(item, self.flow)
        self.partial_since = None if not self._framer.pending else self.partial_since or self.heard
        if self._framer.error is not None:
            _log.info("stream given up", reason=str(self._framer.error), flow=self.number)
            self.close()

    def write(self, data: bytes) -> None:
        """Sends octets."""
        if self._transport is not None:
            self._transport.write(data)

    def pause_writing(self) -> None:
        """The peer takes nothing."""
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Ends it."""
        if self._transport is not None:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._listener.lost(self)


class TcpListener:
    """The TCP half of the SIP port."""

    def __init__(
        self, name: str, host: str, port: int, receiver: Callable[[bytes, Flow], None], broken: Callable[[Flow], None]
    ) -> None:
        self.name = name
        self.receiver = receiver
        self.refused = 0
        self._host = host
        self._port = port
        self._broken = broken
        # Numbers differ between lives of this process, so that an old binding never finds another phone's connection.
        self._next = secrets.randbits(40) << 16
        self._connections: dict[int, Connection] = {}
        self._by_remote: dict[HostPort, Connection] = {}
        self._hosts: dict[str, int] = {}
        self._connecting: dict[HostPort, list[bytes]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    @property
    def now(self) -> float:
        """The loop's clock."""
        return self._loop.time()

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._connections)

    async def start(self) -> None:
        """Begins to listen. Raises OSError."""
        self._server = await self._loop.create_server(self._connection, self._host, self._port, backlog=512)
        self._sweeper = self._loop.call_later(SWEEP_S, self._sweep)

    def _connection(self) -> Connection:
        self._next += 1
        return Connection(self, self._next)

    def send(self, data: bytes, flow: Flow) -> bool:
        """Sends a message down a flow, or to its address where the flow has no connection; False where it is gone."""
        connection = self._connections.get(flow.connection) if flow.connection else self._by_remote.get(flow.remote)
        if connection is not None:
            connection.write(data)
            return True
        if flow.connection:
            return False
        waiting = self._connecting.get(flow.remote)
        if waiting is not None:
            waiting.append(data)
            return len(waiting) <= WAITING_MAX
        if len(self._connections) + len(self._connecting) >= CONNECTIONS_MAX:
            return False
        self._connecting[flow.remote] = [data]
        task = self._loop.create_task(self._connect(flow))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def _connect(self, flow: Flow) -> None:
        remote = flow.remote
        try:
            async with asyncio.timeout(CONNECT_S):
                _, connection = await self._loop.create_connection(self._connection, remote.host, remote.port)
        except (OSError, TimeoutError):
            self._connecting.pop(remote, None)
            self._broken(flow)
            return
        for data in self._connecting.pop(remote, []):
            connection.write(data)

    def admit(self, connection: Connection) -> bool:
        """Takes a connection in, within the limits."""
        flow = connection.flow
        assert flow is not None
        host = flow.remote.host
        if len(self._connections) >= CONNECTIONS_MAX or self._hosts.get(host, 0) >= PER_HOST_MAX:
            self.refused += 1
            return False
        self._connections[connection.number] = connection
        self._by_remote[flow.remote] = connection
        self._hosts[host] = self._hosts.get(host, 0) + 1
        return True

    def lost(self, connection: Connection) -> None:
        """A connection is gone: what was under way on it fails."""
        flow = connection.flow
        if flow is None or self._connections.pop(connection.number, None) is None:
            return
        if self._by_remote.get(flow.remote) is connection:
            del self._by_remote[flow.remote]
        host = flow.remote.host
        self._hosts[host] -= 1
        if not self._hosts[host]:
            del self._hosts[host]
        self._broken(flow)

    def _sweep(self) -> None:
        now = self.now
        for connection in list(self._connections.values()):
            partial = connection.partial_since
            if now - connection.heard > IDLE_S or (partial is not None and now - partial > PARTIAL_S):
                connection.close()
        self._sweeper = self._loop.call_later(SWEEP_S, self._sweep)

    def close(self) -> None:
        """Stops listening and closes every connection."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        for connection in list(self._connections.values()):
            connection.close()
