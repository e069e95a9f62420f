"""Slots with their ports open: taken for a call, or granted to an instance ahead of calls.

What `SlotPool` says and what the datapath can bind, brought together; no call is known here.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Container, Iterable
from typing import Final

from pbx_media_relay import events
from pbx_media_relay.datapath.base import Datapath, DatapathError, PortInUseError
from pbx_media_relay.errors import DatapathRefusedError, NoFreeSlotError
from pbx_media_relay.forward import PORTS_PER_SLOT
from pbx_media_relay.grants import Grants
from pbx_media_relay.ports import SlotPool

BIND_TRIES: Final = 8
"""Slots tried for one call before it is refused: broken ports come in rows, but a full shard must not be
walked."""


class Slots:
    """The slots of one relay."""

    def __init__(self, pool: SlotPool, datapath: Datapath, tell: Callable[[events.RelayEvent], None]) -> None:
        self.grants = Grants()
        self._pool = pool
        self._datapath = datapath
        self._tell = tell

    def __repr__(self) -> str:
        return f"<Slots {self._pool!r}, {self.grants!r}>"

    def grant(self, instance_id: str, count: int, now_ns: int) -> list[int]:
        """Open as many slots for an instance as it may have and the pool gives, up to `count`."""
        counts = self._pool.counts
        found = []
        for _ in range(min(count, self.grants.room(instance_id, counts.total, counts.free))):
            try:
                slot = self._take_bound(now_ns)
            except (NoFreeSlotError, DatapathRefusedError):
                break  # fewer, then; the next call that asks for one hears why
            self.grants.add(instance_id, slot)
            found.append(slot)
        return found

    def begin(self, instance_id: str, slot: int) -> bool:
        """A call takes a granted slot; False where it is not this instance's."""
        return self.grants.end(instance_id, slot)

    def give_back(self, instance_id: str, slots: Iterable[int], now_ns: int) -> None:
        """Slots that were granted and not used; what was not granted is passed over."""
        for slot in slots:
            if self.grants.end(instance_id, slot):
                heard = self._datapath.last_heard_ns(slot * PORTS_PER_SLOT) > 0
                self._pool.give_back(slot, heard, now_ns)

    def give_back_all(self, instance_id: str, now_ns: int) -> None:
        """The instance is gone, or knows of none any more."""
        self.give_back(instance_id, self.grants.of(instance_id), now_ns)

    def take(self, now_ns: int, shunned: Container[int]) -> int:
        """A slot whose ports are bound, and none of those `shunned`: a phone beside us says that its own port is there.

        Where there is no other one the shunned slot is taken; the endpoint is refused when it is looked at.
        Raises NoFreeSlotError, DatapathRefusedError.
        """
        slot = self._take_bound(now_ns)
        if slot not in shunned:
            return slot
        try:
            other = self._take_bound(now_ns)
        except NoFreeSlotError:
            return slot
        self._pool.give_back(slot, False, now_ns)
        return other

    def _take_bound(self, now_ns: int) -> int:
        for _ in range(BIND_TRIES):
            slot = self._pool.take()
            if slot is None:
                raise NoFreeSlotError(f"no free slot in {self._pool.shard}")
            try:
                self._datapath.bind(slot * PORTS_PER_SLOT)
            except PortInUseError as busy:
                self._pool.take_out(slot, now_ns)
                self._tell(events.SlotBroken(slot, busy.port))
            except (OSError, DatapathError) as error:
                self._pool.give_back(slot, False, now_ns)
                if getattr(error, "errno", 0) in (errno.EMFILE, errno.ENFILE):
                    raise NoFreeSlotError("no descriptors left for another slot's sockets") from error
                raise DatapathRefusedError(str(error)) from error
            else:
                return slot
        raise NoFreeSlotError(f"{BIND_TRIES} slots in a row have ports held by other processes")
