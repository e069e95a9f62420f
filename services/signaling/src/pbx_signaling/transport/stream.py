"""SIP over connections: taken and made, each with a number that its flows carry (RFC 3261 section 18, RFC 5626).

What came over a connection is answered over it. To an address without a connection one is made, and what is sent
meanwhile waits. A connection that says nothing, or never ends a message, is closed. What the octets mean is the pipe's.
"""

from __future__ import annotations

import asyncio
import enum
import secrets
import socket
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol, cast

from pbx_runtime import logs
from pbx_runtime.tcp import BACKLOG, listening
from pbx_sip.address import Flow, HostPort, Transport

if TYPE_CHECKING:
    from pbx_runtime.address import Listen
    from pbx_signaling.transport.limits import Budget
    from pbx_signaling.transport.pipe import Pipe

KEEPALIVE: Final = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))
"""Seconds: a phone that vanished without a word is found within a minute and a half, and its binding goes."""
USER_TIMEOUT_MS: Final = 20_000
"""For what was sent to be acknowledged: within a transaction's 32 s, so that the call can still go elsewhere."""

_log = logs.get_logger("stream")


class Closed(enum.Enum):
    """Why we closed a connection; the values are labels of metrics."""

    IDLE = "idle"
    SLOW = "slow"
    SILENT = "silent"
    UNSENT = "unsent"
    HANDSHAKE = "handshake"
    FRAMING = "framing"
    LIMIT = "limit"


class Pipes(Protocol):
    """Makes the pipe of each connection."""

    def accepted(self) -> Pipe:
        """For a connection that came."""

    def made(self, remote: HostPort) -> Pipe | None:
        """For a connection of ours; None where this transport makes none."""


class Connection(asyncio.Protocol):
    """One connection."""

    def __init__(self, listener: StreamListener, number: int, pipe: Pipe, *, is_ours: bool) -> None:
        self.number = number
        self.pipe = pipe
        self.is_ours = is_ours
        self.flow: Flow | None = None
        self.since = self.heard = 0.0
        self.partial_since: float | None = None
        """When that began to come of which the end is missing."""
        self.messages = 0
        self._listener = listener
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It stands."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class, with the same methods
        self._transport.set_write_buffer_limits(high=self._listener.budget.limits.unsent_max)
        peer = transport.get_extra_info("peername")
        if peer is None:  # it went before it was taken
            self._transport.abort()
            return
        _tune(transport.get_extra_info("socket"))
        listener = self._listener
        self.flow = Flow(listener.transport, HostPort(peer[0], peer[1]), listener.name, self.number)
        self.since = self.heard = listener.now
        self.partial_since = self.heard if self.pipe.pending else None
        if listener.admit(self):
            self._flush()
        else:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Octets came."""
        flow, listener, pipe = self.flow, self._listener, self.pipe
        if flow is None:
            return
        self.heard, completed = listener.now, pipe.completed
        for message in pipe.receive(data):
            self.messages += 1
            listener.receiver(message, flow)
        if not pipe.pending:
            self.partial_since = None
        elif self.partial_since is None or pipe.completed > completed:
            self.partial_since = self.heard  # something else than before is incomplete now
        self._flush()
        if pipe.failure is not None:
            _log.info("stream given up", reason=pipe.detail, transport=listener.name, flow=self.number)
            self.close(Closed(pipe.failure.value))
        elif pipe.ended:
            self.close()

    def write(self, data: bytes) -> None:
        """Sends a message."""
        self.pipe.send(data)
        self._flush()

    def _flush(self) -> None:
        out = self.pipe.outgoing()
        if out and self._transport is not None:
            self._transport.write(out)

    def pause_writing(self) -> None:
        """The peer takes nothing."""
        if self._transport is not None:
            self._listener.closed[Closed.UNSENT] += 1
            self._transport.abort()

    def close(self, why: Closed | None = None) -> None:
        """Ends it; `why` where it is our decision."""
        if self._transport is None or self._transport.is_closing():
            return
        if why is not None:
            self._listener.closed[why] += 1
        self.pipe.close()
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Ends it without a word, whatever is still to be sent."""
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._listener.lost(self)


def _tune(sock: socket.socket | None) -> None:
    """Finds dead peers soon, and sends small messages at once."""
    if sock is None:
        return
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, seconds in KEEPALIVE:
            sock.setsockopt(socket.IPPROTO_TCP, option, seconds)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
    except OSError:
        return  # it is gone already: connection_lost follows


class StreamListener:
    """One port that takes connections of one transport and one address family, and makes those that are needed."""

    def __init__(
        self,
        name: str,
        transport: Transport,
        listen: Listen,
        pipes: Pipes,
        budget: Budget,
        receiver: Callable[[bytes, Flow], None],
        broken: Callable[[Flow], None],
        keeps: Callable[[Flow], bool] = lambda flow: False,
        inherited: socket.socket | None = None,
    ) -> None:
        """`keeps`: whether a silent connection is still wanted, for a phone is registered over it; `inherited`: the
        socket that listens, where another process opened it."""
        self.name = name
        self.transport = transport
        self.budget = budget
        self.receiver = receiver
        self.closed: Counter[Closed] = Counter()
        """Connections that we ended, by reason."""
        self.accepted = 0
        self.connect_failures = 0
        self._listen = listen
        self._inherited = inherited
        self._pipes = pipes
        self._broken = broken
        self._keeps = keeps
        # Numbers differ between lives of this process, so that an old binding never finds another phone's connection.
        self._next = secrets.randbits(40) << 16
        self._connections: dict[int, Connection] = {}
        self._by_remote: dict[HostPort, Connection] = {}
        self._connecting: dict[HostPort, list[bytes]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._is_closing = False
        self._loop = asyncio.get_running_loop()

    @property
    def now(self) -> float:
        """The loop's clock."""
        return self._loop.time()

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._connections)

    @property
    def address(self) -> HostPort:
        """Where it listens."""
        assert self._server is not None
        name = self._server.sockets[0].getsockname()
        return HostPort(name[0], name[1])

    async def start(self) -> None:
        """Begins to listen. Raises OSError."""
        bound = listening(self._listen) if self._inherited is None else self._inherited
        self._server = await self._loop.create_server(self._accept, sock=bound, backlog=BACKLOG)
        self._sweeper = self._loop.call_later(self.budget.limits.sweep_s, self._sweep)

    def _accept(self) -> Connection:
        self._next += 1
        self.accepted += 1
        return Connection(self, self._next, self._pipes.accepted(), is_ours=False)

    def send(self, data: bytes, flow: Flow) -> bool:
        """Sends a message down a flow, or to its address where the flow has no connection; False where it is gone."""
        connection = self._connections.get(flow.connection) if flow.connection else self._by_remote.get(flow.remote)
        if connection is not None:
            connection.write(data)
            return True
        return not flow.connection and self._wait(data, flow)

    def holds(self, connection: int) -> bool:
        """Whether a connection of that number stands."""
        return connection in self._connections

    def _wait(self, data: bytes, flow: Flow) -> bool:
        """Keeps a message for a connection that is made meanwhile; False where none can be."""
        limits = self.budget.limits
        waiting = self._connecting.get(flow.remote)
        if waiting is not None:
            if len(waiting) >= limits.waiting_max:
                return False
            waiting.append(data)
            return True
        pipe = self._pipes.made(flow.remote)
        if pipe is None or self._is_closing or self.budget.open + len(self._connecting) >= limits.connections_max:
            return False
        self._connecting[flow.remote] = [data]
        task = self._loop.create_task(self._connect(flow, pipe))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def _connect(self, flow: Flow, pipe: Pipe) -> None:
        remote = flow.remote
        self._next += 1
        number = self._next
        try:
            async with asyncio.timeout(self.budget.limits.connect_s):
                _, connection = await self._loop.create_connection(
                    lambda: Connection(self, number, pipe, is_ours=True), remote.host, remote.port
                )
        except (OSError, TimeoutError) as error:
            self.connect_failures += 1
            _log.info("cannot connect", to=str(flow), reason=str(error) or type(error).__name__)
            self._connecting.pop(remote, None)
            self._broken(flow)
            return
        waiting = self._connecting.pop(remote, [])
        if connection.number not in self._connections:  # beyond a limit, or gone already
            self._broken(flow)
            return
        for data in waiting:
            connection.write(data)

    def admit(self, connection: Connection) -> bool:
        """Takes a connection in, within the limits."""
        flow = connection.flow
        assert flow is not None
        if not self.budget.take(flow.remote.host):
            self.closed[Closed.LIMIT] += 1
            return False
        self._connections[connection.number] = connection
        # A peer that came to us by TLS has shown no certificate for the address; one that we went to has.
        if connection.is_ours or not self.transport.secure:
            self._by_remote[flow.remote] = connection
        return True

    def lost(self, connection: Connection) -> None:
        """A connection is gone: what was under way on it fails."""
        flow = connection.flow
        if flow is None or self._connections.pop(connection.number, None) is None:
            return
        if self._by_remote.get(flow.remote) is connection:
            del self._by_remote[flow.remote]
        self.budget.give(flow.remote.host)
        if self._is_closing:
            return
        self._broken(flow)
        if connection.is_ours:
            self._broken(flow._replace(connection=0))  # requests were sent to the address, before it had a number

    def _sweep(self) -> None:
        now = self.now
        for connection in list(self._connections.values()):
            why = self._overdue(connection, now)
            if why is Closed.SLOW:
                self.closed[why] += 1
                connection.abort()
            elif why is not None:
                connection.close(why)
        self._sweeper = self._loop.call_later(self.budget.limits.sweep_s, self._sweep)

    def _overdue(self, connection: Connection, now: float) -> Closed | None:
        limits, partial = self.budget.limits, connection.partial_since
        if partial is not None and now - partial > limits.partial_s:
            return Closed.SLOW
        if not connection.messages and not connection.is_ours and now - connection.since > limits.first_message_s:
            return Closed.SILENT
        silent_s = now - connection.heard
        if silent_s <= limits.idle_s:
            return None
        keeps = connection.flow is not None and self._keeps(connection.flow)
        return None if keeps and silent_s <= limits.registered_idle_s else Closed.IDLE

    def take_no_more(self) -> None:
        """Leaves new connections to the processes that share the port; those that there are go on."""
        if self._server is not None:
            self._server.close()

    def close(self) -> None:
        """Stops listening and closes every connection."""
        self._is_closing = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        self.take_no_more()
        for task in self._tasks:
            task.cancel()
        for connection in list(self._connections.values()):
            connection.close()
