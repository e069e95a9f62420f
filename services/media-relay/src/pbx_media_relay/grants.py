"""Which slots are granted to which signaling instance ahead of calls. Pure: no ports, no clock.

A grant lets an instance answer an INVITE without asking. It is bounded by shares of the whole shard, one for each
instance and one for all of them, and by a share of what is free now, so that the last slots go to calls.
"""

from __future__ import annotations

from typing import Final

SHARE_OF_ONE: Final = 8
"""An instance holds at most one in so many slots of the shard."""
SHARE_OF_ALL: Final = 4
"""All instances together hold at most one in so many: what idle ones can withhold from busy ones."""
SHARE_OF_FREE: Final = 4
"""A grant takes at most one in so many free slots."""


class Grants:
    """Slots granted and not begun."""

    def __init__(self) -> None:
        self._owner_of: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._owner_of)

    def __repr__(self) -> str:
        return f"<Grants {len(self)} slots>"

    def room(self, instance_id: str, total: int, free: int) -> int:
        """How many more slots an instance may have."""
        mine, all_of_them = len(self.of(instance_id)), len(self)
        return max(0, min(total // SHARE_OF_ONE - mine, total // SHARE_OF_ALL - all_of_them, free // SHARE_OF_FREE))

    def of(self, instance_id: str) -> list[int]:
        """The slots of an instance."""
        return [slot for slot, owner in self._owner_of.items() if owner == instance_id]

    def add(self, instance_id: str, slot: int) -> None:
        """A slot is granted."""
        self._owner_of[slot] = instance_id

    def end(self, instance_id: str, slot: int) -> bool:
        """A call begins on the slot, or it is returned; False where it is not this instance's."""
        if self._owner_of.get(slot) != instance_id:
            return False
        del self._owner_of[slot]
        return True
