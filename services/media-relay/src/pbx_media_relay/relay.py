"""The relay's operations: what `api/` asks, carried out on the session table, the slot pool and the datapath.

Synchronous and without a clock: everything is done when a call returns, `now_ns` (CLOCK_MONOTONIC) is an
argument, and `handle_timeout` is called about once a second. Events go to one listener.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pbx_media_relay import events, reconcile, session
from pbx_media_relay.counters import StreamReport, Totals, joined, last_heard_ns
from pbx_media_relay.datapath.base import ZEROS, Counters, Datapath, DatapathError, PortInUseError
from pbx_media_relay.endpoint import Endpoint
from pbx_media_relay.errors import (
    DatapathRefusedError,
    DrainingError,
    NotGrantedError,
    UnknownCallError,
)
from pbx_media_relay.forward import PORTS_PER_SLOT, place_of
from pbx_media_relay.journal import Journal, NoJournal, Snapshot
from pbx_media_relay.lease import Leases
from pbx_media_relay.order import Order, Status, check_call_id
from pbx_media_relay.ports import Shard, SlotPool
from pbx_media_relay.session import Call, CallTable, Change, Refusal, Rules, Terms
from pbx_media_relay.silence import SilenceWatch
from pbx_media_relay.slots import Slots
from pbx_media_relay.stream import Stream
from pbx_media_relay.tap import NoTap, Tap


class Relay:
    """One relay's calls."""

    def __init__(
        self,
        pool: SlotPool,
        datapath: Datapath,
        *,
        media_timeout_s: int,
        tell: Callable[[events.RelayEvent], None],
        journal: Journal | None = None,
        tap: Tap | None = None,
        rules: Rules | None = None,
        report: Callable[[Call, list[StreamReport], int], None] = lambda call, reports, now_ns: None,
    ) -> None:
        """`report` is told what flowed in each call when it gives its slot back, and the time."""
        self._pool = pool
        self._datapath = datapath
        self._media_timeout_s = media_timeout_s
        self._tell = tell
        self._journal: Journal = journal or NoJournal()
        self._tap: Tap = tap or NoTap()
        self._rules = rules or Rules()
        self._report = report
        self._calls = CallTable()
        self._by_slot: dict[int, Call] = {}
        self._silence = SilenceWatch()
        self._ended = Totals()
        self._removed: dict[int, Counters] = {}
        """Final counters of streams taken out while their call goes on, by forward id."""
        self.leases = Leases()
        self.slots = Slots(pool, datapath, tell)
        self.drain_deadline_ns: int | None = None

    def __repr__(self) -> str:
        state = "ready" if self.drain_deadline_ns is None else "draining"
        return f"<Relay {state}, {self._calls!r}, {self._pool!r}>"

    def start(self, former: Iterable[Snapshot] = (), now_ns: int = 0) -> None:
        """Start the datapath and take up the calls of a former process.

        Forwards that outlived it without their call are taken out; their calls' owners have a lease to come
        back.
        """
        survivors = self._datapath.start(self)
        for snapshot in former:
            self._restore(snapshot, now_ns)
        for orphan in reconcile.orphans(survivors, self._calls):
            self._datapath.remove(orphan)

    @property
    def calls(self) -> CallTable:
        """The calls that hold a slot; not to be changed."""
        return self._calls

    @property
    def status(self) -> Status:
        """State and slots now."""
        granted = len(self.slots.grants)
        return Status(self.drain_deadline_ns is not None, self._pool.counts, self._pool.shard, granted)

    def connect(self, instance_id: str, lease_s: int, now_ns: int) -> None:
        """A stream of an instance stands. With its first one it begins anew: it knows of no slots granted before."""
        if not self.leases.is_connected(instance_id):
            self.slots.give_back_all(instance_id, now_ns)
        self.leases.connect(instance_id, lease_s)

    def grant(self, instance_id: str, count: int, now_ns: int) -> list[int]:
        """Slots ahead of calls, as many as there may be. Raises DrainingError."""
        self._refuse_draining()
        self.leases.touch(instance_id, now_ns)
        return self.slots.grant(instance_id, count, now_ns)

    def begin(self, order: Order, slot: int, now_ns: int) -> Call:
        """Put a call on a granted slot, also while the relay drains: whoever has it has told a phone of it.

        Raises NotGrantedError, InvalidStreamError, DatapathRefusedError.
        """
        call = self._calls.get(order.call_id)
        if call is not None and call.slot == slot:
            return self._again(call, order, now_ns)
        check_call_id(order.call_id)
        if call is not None or not self.slots.begin(order.instance_id, slot):
            raise NotGrantedError(f"slot {slot} is not granted to {order.instance_id}")
        return self._place(order, slot, now_ns)

    def give_back(self, instance_id: str, slots: Iterable[int], now_ns: int) -> None:
        """Granted slots on which no call was put; others are passed over."""
        self.slots.give_back(instance_id, slots, now_ns)

    def allocate(self, order: Order, now_ns: int) -> Call:
        """Take a slot, or answer the one that the call has.

        Raises NoFreeSlotError, DrainingError, InvalidStreamError, DatapathRefusedError.
        """
        call = self._calls.get(order.call_id)
        if call is not None:
            return self._again(call, order, now_ns)
        self._refuse_draining()
        check_call_id(order.call_id)
        slot = self.slots.take(now_ns, session.own_slots(order.streams, self._rules))
        return self._place(order, slot, now_ns)

    def _refuse_draining(self) -> None:
        if self.drain_deadline_ns is not None:
            raise DrainingError("the relay is draining")

    def _again(self, call: Call, order: Order, now_ns: int) -> Call:
        self._calls.own(call, order.instance_id)
        self.leases.touch(order.instance_id, now_ns)
        self._update(call, order.streams, order.refused, now_ns)
        return call

    def _place(self, order: Order, slot: int, now_ns: int) -> Call:
        timeout_s = order.media_timeout_s or self._media_timeout_s
        terms = Terms(timeout_s * 1_000_000_000, order.latching)
        call = Call(order.call_id, slot, order.instance_id, terms, now_ns)
        self._calls.add(call)
        self._by_slot[call.slot] = call
        self.leases.touch(order.instance_id, now_ns)
        try:
            self._update(call, order.streams, order.refused, now_ns)
        except DatapathRefusedError:
            # Nothing flowed, and another relay will carry the call.
            self._calls.remove(call.id)
            self._let_go(call, now_ns)
            raise
        return call

    def update(
        self,
        call_id: str,
        instance_id: str,
        streams: Iterable[Stream],
        now_ns: int,
        refused: tuple[Refusal, ...] = (),
    ) -> Call:
        """Tell endpoints; the call says which were refused. Raises UnknownCallError, DatapathRefusedError."""
        call = self._calls.get(call_id)
        if call is None:
            raise UnknownCallError(f"no call {call_id}")
        if instance_id:
            self._calls.own(call, instance_id)
        self.leases.touch(call.instance_id, now_ns)
        self._update(call, streams, refused, now_ns)
        return call

    def release(self, call_id: str, now_ns: int) -> list[StreamReport]:
        """Give a slot back, report and answer what flowed; an unknown call answers nothing."""
        call = self._calls.remove(call_id)
        if call is None:
            return []
        reports = self._let_go(call, now_ns)
        self._report(call, reports, now_ns)
        return reports

    def _let_go(self, call: Call, now_ns: int) -> list[StreamReport]:
        call_id = call.id
        self._journal.forget(call_id)
        if call.tapped:
            self._tap.stop(call_id, now_ns)
        self._by_slot.pop(call.slot)
        self._silence.forget(call_id)
        reports = []
        for index, stream in call.streams.items():
            number = call.forward_id(index)
            counters = self._datapath.remove(number)
            if number in self._removed:
                counters = joined(self._removed.pop(number), counters)
            self._ended.add(counters)
            reports.append(StreamReport(stream, counters))
        heard = self._datapath.last_heard_ns(call.slot_port) > call.allocated_at_ns
        self._pool.give_back(call.slot, heard, now_ns)
        return reports

    def query(self, call_id: str) -> tuple[Call, list[StreamReport]]:
        """What has flowed so far. Raises UnknownCallError."""
        call = self._calls.get(call_id)
        if call is None:
            raise UnknownCallError(f"no call {call_id}")
        return call, self.reports(call)

    def reports(self, call: Call) -> list[StreamReport]:
        """What has flowed so far in a call."""
        numbers = [call.forward_id(index) for index in call.streams]
        found = self._datapath.counters(numbers)
        return [
            StreamReport(stream, joined(self._removed.get(number, ZEROS), counters))
            for stream, number, counters in zip(call.streams.values(), numbers, found, strict=True)
        ]

    def tap(self, call_id: str) -> Call:
        """Begin to copy a call's packets. Raises UnknownCallError, DatapathRefusedError."""
        call = self._calls.get(call_id)
        if call is None:
            raise UnknownCallError(f"no call {call_id}")
        self._carry_out(session.tap(call, True))
        return call

    def untap(self, call_id: str, now_ns: int) -> bool:
        """End the copying; whether there was any."""
        self._tap.stop(call_id, now_ns)
        call = self._calls.get(call_id)
        if call is None:
            return False
        was_tapped = call.tapped
        self._carry_out(session.tap(call, False))
        return was_tapped

    def drain(self, deadline_ns: int, now_ns: int) -> None:
        """Take no new calls from now on. A second call may only bring the deadline nearer."""
        if self.drain_deadline_ns is not None and self.drain_deadline_ns <= deadline_ns:
            return
        self.drain_deadline_ns = deadline_ns
        self._tell(events.Draining(now_ns, deadline_ns))

    def reshape(self, shard: Shard) -> None:
        """Own other ports from now on; calls keep the slots that they have."""
        self._pool.reshape(shard)

    def totals(self) -> Totals:
        """What the relay carried since its start, live calls included."""
        totals = self._ended.copy()
        numbers = [number for call in self._calls for number in call.forwards]
        for counters in [*self._datapath.counters(numbers), *self._removed.values()]:
            totals.add(counters)
        return totals

    def handle_timeout(self, now_ns: int) -> None:
        """End rests, leases and silences whose time has come; to be called about once a second."""
        for slot in self._pool.settle(now_ns, self._slot_heard_ns):
            self._datapath.unbind(slot * PORTS_PER_SLOT)
        for instance_id in self.leases.expire(now_ns):
            self.slots.give_back_all(instance_id, now_ns)
            for call in self._calls.owned_by(instance_id):
                self.release(call.id, now_ns)
                self._tell(events.LeaseExpired(call.id, instance_id, now_ns))
        for silence in self._silence.due(now_ns, self._last_packet_ns):
            call_ = self._calls.get(silence.call_id)
            if call_ is not None:
                self._tell(events.MediaTimeout(call_.id, call_.instance_id, now_ns, silence.silent_ns))

    def close(self, now_ns: int) -> list[str]:
        """End: release what is left and answer the ids of the calls dropped by it."""
        dropped = [call.id for call in self._calls]
        for call_id in dropped:
            self.release(call_id, now_ns)
        self._datapath.close()
        return dropped

    def flush(self) -> None:
        """What was done so far outlives this process when this returns."""
        self._journal.flush()

    def first_packet(self, forward: int, source: Endpoint, at_ns: int) -> None:
        """See `Listener`: the datapath tells."""
        slot, side, medium = place_of(forward)
        call = self._by_slot.get(slot)
        if call is not None:
            self._tell(events.FirstPacket(call.id, call.instance_id, at_ns, side, medium, source))

    def tapped(self, forward: int, packet: bytes, at_ns: int) -> None:
        """See `Listener`: a copy of a packet, for whoever asked."""
        self._tap.packet(forward, packet, at_ns)

    def _restore(self, snapshot: Snapshot, now_ns: int) -> None:
        slot_port = snapshot.slot * PORTS_PER_SLOT
        if not self._pool.adopt(snapshot.slot):
            self._journal.forget(snapshot.id)
            return
        call = Call(snapshot.id, snapshot.slot, snapshot.instance_id, snapshot.terms, snapshot.allocated_at_ns)
        session.restore(call, snapshot.streams, snapshot.windows, self._rules)
        try:
            self._datapath.bind(slot_port)
            for forward in call.forwards.values():
                self._datapath.upsert(forward)
        except (PortInUseError, DatapathError, OSError) as error:
            self._pool.take_out(snapshot.slot, now_ns)
            self._journal.forget(snapshot.id)
            self._tell(events.CallLost(snapshot.id, str(error)))
            return
        self._calls.add(call)
        self._by_slot[call.slot] = call
        self.leases.touch(call.instance_id, now_ns)
        if call.expects_media():
            self._silence.watch(call.id, call.terms.media_timeout_ns, now_ns)

    def _update(self, call: Call, streams: Iterable[Stream], refused: tuple[Refusal, ...], now_ns: int) -> None:
        told = tuple(streams)
        loops = session.refusals(call, told, self._by_slot.__contains__, self._rules)
        call.refused = (*refused, *loops)
        self._carry_out(session.update(call, session.without(told, loops), now_ns, self._rules))
        self._journal.store(call)
        if call.tapped:
            self._tap.updated(call)
        if not call.expects_media():
            self._silence.forget(call.id)
        elif not self._silence.is_watched(call.id):
            self._silence.watch(call.id, call.terms.media_timeout_ns, now_ns)

    def _carry_out(self, change: Change) -> None:
        try:
            for forward in change.upsert:
                self._datapath.upsert(forward)
        except DatapathError as error:
            raise DatapathRefusedError(str(error)) from error
        for number in change.remove:
            self._removed[number] = joined(self._removed.get(number, ZEROS), self._datapath.remove(number))

    def _slot_heard_ns(self, slot: int) -> int:
        return self._datapath.last_heard_ns(slot * PORTS_PER_SLOT)

    def _last_packet_ns(self, call_id: str) -> int:
        call = self._calls.get(call_id)
        if call is None or not call.forwards:
            return 0
        return max(map(last_heard_ns, self._datapath.counters(call.forwards)))
