"""What one input causes, as frozen values that are returned: one `Step` for each call, and one for what is of none.

`Steps` collects what the users of transactions do while an input is handled. Everything names its call, so nothing
depends on which call was thought of last; `take` closes the steps and empties it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from pbx_signaling.users.questions import AFTER_RECORDS
from pbx_sip.swift import swift

if TYPE_CHECKING:
    from pbx_signaling.calls.commands import Emit
    from pbx_signaling.users.entry import Entry
    from pbx_signaling.users.questions import Question
    from pbx_signaling.users.told import Told
    from pbx_sip.address import Flow


class Asker(Protocol):
    """A user that puts questions to the world."""

    def answered(self, number: str | int, answer: object) -> None:
        """The answer to what it asked under that number last."""


@swift
@dataclass(frozen=True, slots=True)
class Ask:
    """A question to the world, and who gets the answer."""

    user: Asker
    number: str | int
    """By which the user knows what it asked about: a call id, or the number of a request that waits."""
    question: Question

    @property
    def waits(self) -> bool:
        """Whether it leaves only when the records of its step are stored."""
        return type(self.question) in AFTER_RECORDS


@swift
@dataclass(frozen=True, slots=True)
class Step:
    """What one input caused for one call: its records and its snapshot are stored, then what reveals them leaves."""

    call_id: str = ""
    """Empty: of no call; nothing waits for its events then."""
    records: tuple[Emit | Told, ...] = ()
    """Stamped when they were made, in order."""
    events: tuple[bytes, ...] = ()
    """The records as they are written."""
    snapshot: bytes = b""
    """The call after them; empty where there are no records, or where it is over."""
    asks: tuple[Ask, ...] = ()
    transmits: tuple[tuple[bytes, Flow], ...] = ()

    def then(self, later: Step) -> Step:
        """This step and a later one of the same call as one: one write instead of two."""
        return Step(
            self.call_id,
            self.records + later.records,
            self.events + later.events,
            later.snapshot if later.events else self.snapshot,
            self.asks + later.asks,
            self.transmits + later.transmits,
        )


class Encoder(Protocol):
    """Makes events and snapshots of records. Called once for each step that has any."""

    def encode(self, entry: Entry, records: list[Emit]) -> tuple[tuple[bytes, ...], bytes]:
        """The events of a call's records, and its snapshot after them; that is empty where the call is over."""

    def encode_told(self, told: Told) -> bytes:
        """The event of what is told of a message outside of calls."""


@dataclass(slots=True)
class _Draft:
    entry: Entry | None = None
    records: list[Emit] = field(default_factory=list)
    asks: list[Ask] = field(default_factory=list)
    transmits: list[tuple[bytes, Flow]] = field(default_factory=list)


class Steps:
    """The steps of the input under way, by call."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._drafts: dict[str, _Draft] = {}
        self._told: list[Told] = []

    def transmit(self, call_id: str, data: bytes, flow: Flow) -> None:
        """Sends something for a call, or for none."""
        self._draft(call_id).transmits.append((data, flow))

    def record(self, entry: Entry, emit: Emit) -> None:
        """Writes an event of a call, and its state with it, before all that its step reveals."""
        draft = self._draft(entry.call.call_id)
        draft.entry = entry
        draft.records.append(emit)

    def tell(self, told: Told) -> None:
        """Writes an event of no call; nothing waits for it."""
        self._told.append(told)

    def ask(self, ask: Ask, call_id: str = "") -> None:
        """Puts a question to the world."""
        self._draft(call_id).asks.append(ask)

    def take(self) -> list[Step]:
        """Closes the steps: what is to be done, in order."""
        drafts = self._drafts
        if not drafts and not self._told:
            return []
        self._drafts = {}
        steps = [self._close(call_id, draft) for call_id, draft in drafts.items()]
        if self._told:
            told, self._told = tuple(self._told), []
            steps.append(Step(records=told, events=tuple([self._encoder.encode_told(each) for each in told])))
        return steps

    def _close(self, call_id: str, draft: _Draft) -> Step:
        events: tuple[bytes, ...] = ()
        snapshot = b""
        if draft.entry is not None:
            events, snapshot = self._encoder.encode(draft.entry, draft.records)
        return Step(call_id, tuple(draft.records), events, snapshot, tuple(draft.asks), tuple(draft.transmits))

    def _draft(self, call_id: str) -> _Draft:
        draft = self._drafts.get(call_id)
        if draft is None:
            draft = self._drafts[call_id] = _Draft()
        return draft
