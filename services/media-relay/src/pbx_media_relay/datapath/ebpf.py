"""The datapath in the kernel: a classifier relays what is plain, a datapath in user space below it does the rest.

Both know every forward. The program (services/media-relay/bpf) takes the path of a packet that `base.py` lists and
latches by itself; what it leaves to the sockets on the same ports (STUN, fragments, packets longer than the path,
hosts without a route, slow forwards) the lower datapath relays by the same rules. A forward's figures are the sum.
So that the lower one sends to the same place, it is told every source that the program latched; it latches by itself
only while a forward is slow, which a tapped one is.

With a name and a bpffs the maps and the links are pinned: the kernel goes on relaying while no process lives, for
`ALIVE_NS` at most, and the next process of that name takes the forwards over with their figures and latches.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

from pbx_media_relay.datapath.base import ZEROS, Counters, Datapath, Listener
from pbx_media_relay.datapath.select import UnsupportedError, Wanted, best_of
from pbx_media_relay.ebpf import abi, syscall, values
from pbx_media_relay.ebpf.elf import ObjectError
from pbx_media_relay.ebpf.maps import Links, Maps, load, pin_directory
from pbx_media_relay.ebpf.table import UNHEARD, Glance, Installed, Table
from pbx_media_relay.ebpf.ways import Ways
from pbx_media_relay.endpoint import Endpoint
from pbx_media_relay.forward import PORTS_PER_SLOT, Forward
from pbx_media_relay.latching import SETTLE_NS, Rank
from pbx_runtime import logs

TICK_S: Final = 0.2
"""How soon a first packet is told and the lower datapath hears of a latch; the contract allows a second."""
ALIVE_NS: Final = 180_000_000_000
"""How long the kernel relays for a process that is gone: longer than any restart, and than signaling's leases
(60 s), after which its calls are moved or over."""
LOOK_NS: Final = 5_000_000_000
"""How often addresses, interfaces and routes are looked at again."""
RENEWED_PER_TICK: Final = 50
"""Forwards whose routes are compared per tick: 250 a second, some milliseconds of work."""
SETTLED_PER_TURN: Final = 50
"""Forwards that are told of in a row, 2 ms of work: the kernel relays on this core too."""
PAUSE_S: Final = 0.01
"""Until the next turn where more have changed."""
FORWARDS_MIN: Final = 8192
"""Two maps of about 0.5 and 0.6 KiB per forward: 9 MiB. Larger shards get more."""
FORWARDS_PER_SLOT: Final = 4
PORTS_PER_FORWARD: Final = 2
LOOPBACK: Final = 1
"""The same number in every network namespace."""
_log = logs.get_logger("ebpf")
Seen = tuple[Glance, Endpoint | None, Endpoint | None]


class EbpfDatapath:
    """Relays in the kernel what it can, through `lower` what it cannot."""

    name = "ebpf"

    def __init__(self, maps: Maps, program: int, ways: Ways, lower: Datapath) -> None:
        self._maps = maps
        self._table = Table(maps)
        self._ways = ways
        self.lower = lower
        self._links = Links(program, maps.directory)
        self._forwards: dict[int, Forward] = {}
        self._slow: set[int] = set()
        self._unsettled: set[int] = set()
        self._glances: dict[int, Seen] = {}
        """What was seen of them last."""
        self._changed: list[int] = []
        """Those whose turn has not come yet."""
        self._told: set[int] = set()
        self._below: dict[int, Forward] = {}
        """What the lower datapath was told last."""
        self._heard: dict[int, int] = {}
        """When slots last heard something, of forwards that were taken out."""
        self._listener: Listener | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._looked_ns = 0
        self._renewing: list[int] = []

    def __repr__(self) -> str:
        return f"<EbpfDatapath {self._table!r}, {len(self._slow)} slow, over {self.lower!r}>"

    def start(self, listener: Listener) -> frozenset[int]:
        """See `Datapath.start`: the forwards of a former process go on."""
        self._listener, self._loop = listener, asyncio.get_running_loop()
        self.lower.start(self)
        self._look(time.monotonic_ns())
        self._tick()
        survivors = self._table.ids()
        _log.info(
            "in the kernel",
            pins=str(self._maps.directory),
            interfaces=sorted(self._links.interfaces),
            forwards=len(survivors),
        )
        return survivors

    def bind(self, slot_port: int) -> None:
        """See `Datapath.bind`."""
        self.lower.bind(slot_port)

    def unbind(self, slot_port: int) -> None:
        """See `Datapath.unbind`."""
        self.lower.unbind(slot_port)
        self._heard.pop(slot_port, None)

    def last_heard_ns(self, slot_port: int) -> int:
        """See `Datapath.last_heard_ns`."""
        heard = max(self.lower.last_heard_ns(slot_port), self._heard.get(slot_port, 0))
        first = slot_port // PORTS_PER_FORWARD
        for number in range(first, first + FORWARDS_PER_SLOT):
            each = self._table.get(number)
            if each is not None:
                heard = max(heard, self._table.stream(each).heard_ns)
        return heard

    def upsert(self, forward: Forward) -> None:
        """See `Datapath.upsert`."""
        each = self._table.get(forward.id)
        slow = forward.tap or forward.fixed
        was_slow = forward.id in self._slow
        if each is not None and was_slow and not slow:
            self._take_back(each, forward.id)
        value = values.value_of(forward, each.value if each else None, self._ways.way, slow)
        self._forwards[forward.id] = forward
        self._mark(self._slow, forward.id, slow)
        if not self._table.install(forward.id, value):
            _log.warning("no room in the kernel, relayed in user space", forward=forward.id)
            self._mark(self._slow, forward.id, True)
        self._unsettled.add(forward.id)
        each = self._table.get(forward.id)
        if each is not None and self._table.glance(each) == UNHEARD:
            self._glances[forward.id] = self._glance(forward.id, each)
        else:
            self._glances.pop(forward.id, None)
        self._tell_lower(forward.id)

    def remove(self, forward: int) -> Counters:
        """See `Datapath.remove`."""
        stream = self._table.remove(forward)
        self._forwards.pop(forward, None)
        self._below.pop(forward, None)
        self._glances.pop(forward, None)
        for known in (self._slow, self._unsettled, self._told):
            known.discard(forward)
        below = self.lower.remove(forward)
        if stream is None:
            return below
        slot_port = forward * PORTS_PER_FORWARD // PORTS_PER_SLOT * PORTS_PER_SLOT
        self._heard[slot_port] = max(self._heard.get(slot_port, 0), stream.heard_ns)
        return values.added(values.counters_of(stream), below)

    def counters(self, forwards: Iterable[int]) -> list[Counters]:
        """See `Datapath.counters`."""
        numbers = list(forwards)
        below = self.lower.counters(numbers)
        return [self._sum(number, user) for number, user in zip(numbers, below, strict=True)]

    def close(self) -> None:
        """See `Datapath.close`: with forwards installed, the kernel goes on with them."""
        if self._timer is not None:
            self._timer.cancel()
        forget = not len(self._table)
        self._links.close(forget)
        self._maps.close(forget)
        self.lower.close()

    def first_packet(self, forward: int, source: Endpoint, at_ns: int) -> None:
        """See `Listener`: the lower datapath's."""
        self._tell_first(forward, source, at_ns)

    def tapped(self, forward: int, packet: bytes, at_ns: int) -> None:
        """See `Listener`: the lower datapath's."""
        assert self._listener is not None
        self._listener.tapped(forward, packet, at_ns)

    def _sum(self, number: int, user: Counters) -> Counters:
        each = self._table.get(number)
        if each is None:
            return user
        kernel = values.counters_of(self._table.stream(each))
        total = values.added(kernel, user)
        return ZEROS if total == ZEROS else total

    def _tell_first(self, forward: int, source: Endpoint, at_ns: int) -> None:
        if forward in self._told or forward not in self._forwards:
            return
        self._told.add(forward)
        assert self._listener is not None
        self._listener.first_packet(forward, source, at_ns)

    def _tell_lower(self, number: int) -> None:
        """What the lower datapath is to do with this forward's packets, should any come to it.

        Strict towards where the program sends, unless it has to latch by itself for a slow forward.
        """
        forward, each = self._forwards[number], self._table.get(number)
        view = forward
        if each is not None and not forward.fixed:  # which is user space's alone
            stream = self._table.stream(each)
            is_latched = values.latched(each.value, stream, 0) is not None
            if number not in self._slow or is_latched:
                rtp = values.destination(each.value, stream, 0)
                rtcp = rtp if forward.rtcp_mux else values.destination(each.value, stream, 1)
                view = replace(forward, rtp=rtp, rtcp=rtcp, latch_until_ns=0)
        if self._below.get(number) != view:
            self._below[number] = view
            self.lower.upsert(view)

    def _take_back(self, each: Installed, number: int) -> None:
        """A slow forward is slow no more: the program is to know what user space latched meanwhile."""
        (below,) = self.lower.counters([number])
        stream = self._table.stream(each)
        changed = False
        for index, source in enumerate((below.source, below.source_rtcp)):
            if source is not None and values.latched(each.value, stream, index) != source:
                _seed(stream.latch[index], each.value.leg[index], source, self._ways.way(source.host))
                changed = True
        if changed:
            self._table.write_stream(each, bytes(stream))

    def _tick(self) -> None:
        assert self._loop is not None
        now_ns = time.monotonic_ns()
        self._maps.live_until(now_ns + ALIVE_NS)
        if not self._changed:
            self._changed = [number for number in list(self._unsettled) if self._has_changed(number, now_ns)]
        for number in self._changed[-SETTLED_PER_TURN:]:
            self._settle(number)
        del self._changed[-SETTLED_PER_TURN:]
        if now_ns - self._looked_ns > LOOK_NS:
            self._look(now_ns)
        for number in self._renewing[-RENEWED_PER_TICK:]:
            self._renew(number)
        del self._renewing[-RENEWED_PER_TICK:]
        self._timer = self._loop.call_later(PAUSE_S if self._changed else TICK_S, self._tick)

    def _has_changed(self, number: int, now_ns: int) -> bool:
        """Whether the program heard or latched something new; where nothing can change by itself, it is settled."""
        each = self._table.get(number)
        if each is None:
            self._unsettled.discard(number)
            return False
        if self._glance(number, each) != self._glances.get(number):
            return True
        if number in self._told and now_ns > self._forwards[number].latch_until_ns + SETTLE_NS:
            self._unsettled.discard(number)
        return False

    def _glance(self, number: int, each: Installed) -> Seen:
        """What is to be compared; of a slow forward also what user space latched."""
        below = self.lower.counters([number])[0] if number in self._slow else ZEROS
        return self._table.glance(each), below.source, below.source_rtcp

    def _settle(self, number: int) -> None:
        """Hear of a first packet and of latches."""
        each = self._table.get(number)
        if each is None:
            return  # removed, before its turn came
        self._glances[number] = self._glance(number, each)
        stream = self._table.stream(each)
        source = values.last_source(stream, 0)
        if stream.first_ns and source is not None:
            self._tell_first(number, source, stream.first_ns)
        if number in self._slow:
            self._take_back(each, number)
        self._tell_lower(number)
        self._renew(number)

    def _renew(self, number: int) -> None:
        """Say anew how a forward's hosts are reached, where that changed or another host was latched."""
        each = self._table.get(number)
        if each is None or number not in self._forwards:
            return
        stream = self._table.stream(each)
        fresh = abi.ForwardC.from_buffer_copy(bytes(each.value))
        for index in range(2):
            fresh.leg[index].way = self._ways.way(values.destination(each.value, stream, index).host)
        if bytes(fresh) != bytes(each.value):
            self._table.install(number, fresh)

    def _look(self, now_ns: int) -> None:
        """At addresses, interfaces and routes."""
        self._looked_ns = now_ns
        hosts, interfaces = self._ways.look()
        self._maps.set_locals(hosts)
        for ifindex in self._links.interfaces - interfaces:
            self._links.detach(ifindex)
        for ifindex in interfaces - self._links.interfaces:
            try:
                self._links.attach(ifindex)
            except OSError as error:
                _log.warning("not attached, relayed in user space", interface=ifindex, error=str(error))
        self._renewing = list(self._table.ids())

    @staticmethod
    def _mark(marked: set[int], number: int, is_marked: bool) -> None:
        (marked.add if is_marked else marked.discard)(number)


def _seed(latch: abi.LatchC, leg: abi.LegC, source: Endpoint, way: abi.WayC) -> None:
    """Write a latch as the program would have."""
    learned = latch.learned[latch.word & 1 ^ 1]
    learned.source = abi.endpoint_c(source)
    learned.local[:] = way.local[:]
    learned.ifindex = way.ifindex
    latch.word += 1
    latch.epoch, latch.aim, latch.until_ns = leg.epoch, leg.aim, 0
    exact = bytes(learned.source) == bytes(leg.announced)
    latch.rank = Rank.EXACT if exact else Rank.HINTED


def unsupported() -> str:
    """What this machine lacks for the kernel's datapath; empty: nothing. Attaches to loopback for a moment."""
    try:
        maps, program = _open(1, None)
    except UnsupportedError as missing:
        return str(missing)
    os.close(program)
    maps.close(True)
    return ""


def make_over(
    lower: Datapath, bind_hosts: tuple[str, ...], forwards: int = 0, pins: Path | None = None
) -> EbpfDatapath:
    """The kernel's datapath over a lower one. Raises UnsupportedError."""
    maps, program = _open(max(forwards, FORWARDS_MIN), pins)
    return EbpfDatapath(maps, program, Ways(bind_hosts), lower)


def make(wanted: Wanted) -> Datapath:
    """See `select.FACTORIES`. Raises UnsupportedError."""
    lower = best_of(("native", "python"), wanted).datapath
    slots = (wanted.shard.last - wanted.shard.first + 1) // PORTS_PER_SLOT
    return make_over(lower, wanted.bind_hosts, slots * FORWARDS_PER_SLOT, pin_directory(wanted.name, wanted.pins))


def _open(forwards: int, pins: Path | None) -> tuple[Maps, int]:
    """Maps and a program that the kernel took and would attach. Raises UnsupportedError."""
    if not syscall.is_known_machine():
        raise UnsupportedError("no bpf(2) number for this processor")
    try:
        maps = Maps(forwards, pins)
        try:
            program = load(maps)
            trial = Links(os.dup(program), None)
            try:
                trial.attach(LOOPBACK)
            finally:
                trial.close(True)
        except BaseException:
            maps.close(not maps.is_taken_over)
            raise
    except PermissionError as error:
        raise UnsupportedError("CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON are needed") from error
    except (OSError, ObjectError) as error:
        raise UnsupportedError(f"the kernel does not take the program: {error}") from error
    return maps, program
