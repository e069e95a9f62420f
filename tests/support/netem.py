"""A lossy network with a virtual clock: nodes exchange datagrams that are lost, doubled, delayed and overtaken.

A weather decides the fate of each datagram: the delays after which copies of it arrive (none: it is lost). Time stands
still while a node works, and jumps to the next arrival or timeout; `jump` lets it pass unnoticed, as when a machine
was suspended. Everything is deterministic: a schedule that failed fails again.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from pbx_sip.address import HostPort

Fate = tuple[float, ...]
FINE: Fate = (0.005,)
LOST: Fate = ()
MAX_EVENTS = 50_000
"""Datagrams and timeouts of one run. More is a livelock."""


class Node(Protocol):
    """Something with one address."""

    address: HostPort
    now: float
    """The node's clock; the network sets it where a test is about to act on the node."""

    def receive(self, data: bytes, source: HostPort, now: float) -> None:
        """A datagram arrives."""

    def handle_timeout(self, now: float) -> None:
        """`next_timeout` has come."""

    @property
    def next_timeout(self) -> float | None:
        """When `handle_timeout` is due."""

    def outgoing(self) -> list[tuple[bytes, HostPort]]:
        """Takes what is to be sent."""


Weather = Callable[[], Fate]


def always(fate: Fate = FINE) -> Weather:
    """The same fate for each datagram."""
    return lambda: fate


def scheduled(fates: Iterable[Fate]) -> Weather:
    """The fates given, then fine weather: what hypothesis draws and shrinks."""
    left = iter(fates)
    return lambda: next(left, FINE)


def stormy(seed: int, *, loss: float = 0.1, double: float = 0.05, late: float = 0.1, late_s: float = 2.0) -> Weather:
    """Random fates by probability; the same for the same seed."""
    chance = random.Random(seed)

    def fate() -> Fate:
        if chance.random() < loss:
            return LOST
        delay = chance.uniform(0.5, late_s) if chance.random() < late else chance.uniform(0.001, 0.05)
        return (delay, delay + chance.uniform(0, 0.5)) if chance.random() < double else (delay,)

    return fate


@dataclass(slots=True)
class Datagram:
    """One that arrived, or was lost."""

    at: float
    source: HostPort
    target: HostPort
    data: bytes
    lost: bool = False

    def __str__(self) -> str:
        """One rung of a ladder."""
        lines = self.data.split(b"\r\n")
        cseq = next((line for line in lines if line.startswith(b"CSeq")), b"").decode()
        arrow = "-x " if self.lost else "->"
        return f"{self.at:9.3f} {self.source.host} {arrow} {self.target.host}  {lines[0].decode()}  ({cseq})"


@dataclass
class Network:
    """Nodes by address, and what is under way between them."""

    weather: Weather = field(default_factory=always)
    now: float = 1000.0
    nodes: dict[HostPort, Node] = field(default_factory=dict)
    ladder: list[Datagram] = field(default_factory=list)
    """What arrived or was lost, in that order."""
    sent: list[Datagram] = field(default_factory=list)
    """What was sent, in that order."""
    censor: Callable[[Datagram], Fate | None] = field(default=lambda datagram: None)
    """Decides before the weather, where a test wants one message to have a fate of its own."""
    events: int = 0
    _under_way: list[tuple[float, int, HostPort, HostPort, bytes]] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def add(self, node: Node) -> None:
        """Connects a node."""
        node.now = self.now
        self.nodes[node.address] = node

    def send(self, data: bytes, source: HostPort, target: HostPort) -> None:
        """Sends a datagram."""
        datagram = Datagram(self.now, source, target, data)
        self.sent.append(datagram)
        chosen = self.censor(datagram)
        fate = self.weather() if chosen is None else chosen
        if not fate:
            self.ladder.append(Datagram(self.now, source, target, data, lost=True))
        for delay in fate:
            heapq.heappush(self._under_way, (self.now + delay, next(self._numbers), source, target, data))

    def _tell_time(self) -> None:
        for node in self.nodes.values():
            node.now = self.now

    def collect(self) -> None:
        """Takes what nodes want sent; call it after anything was done to a node from outside."""
        for node in self.nodes.values():
            for data, target in node.outgoing():
                self.send(data, node.address, target)

    @property
    def next_event(self) -> float | None:
        """When something happens next."""
        times = [node.next_timeout for node in self.nodes.values()]
        times.append(self._under_way[0][0] if self._under_way else None)
        return min((at for at in times if at is not None), default=None)

    def run(self, seconds: float) -> None:
        """Lets time pass, each event at its own moment."""
        end = self.now + seconds
        self.collect()
        while (at := self.next_event) is not None and at <= end:
            self.now = max(self.now, at)
            self._happen()
        self.now = end
        self._tell_time()

    def settle(self) -> None:
        """Lets time pass until nothing more happens by itself."""
        self.collect()
        while (at := self.next_event) is not None:
            self.now = max(self.now, at)
            self._happen()
        self._tell_time()

    def jump(self, seconds: float) -> None:
        """Lets time pass unnoticed: everything that was due happens late, at once."""
        self.collect()
        self.now += seconds
        self._happen()
        self._tell_time()

    def _happen(self) -> None:
        self.events += 1
        assert self.events < MAX_EVENTS, "livelock:\n" + self.told(40)
        while self._under_way and self._under_way[0][0] <= self.now:
            _, _, source, target, data = heapq.heappop(self._under_way)
            self.ladder.append(Datagram(self.now, source, target, data))
            node = self.nodes.get(target)
            if node is not None:
                node.receive(data, source, self.now)
                self.collect()
        for node in list(self.nodes.values()):
            due = node.next_timeout
            if due is not None and due <= self.now:
                node.handle_timeout(self.now)
                self.collect()

    def told(self, last: int = 200) -> str:
        """The ladder, for a test that failed."""
        return "\n".join(str(datagram) for datagram in self.ladder[-last:])
