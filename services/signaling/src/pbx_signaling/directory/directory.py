"""The cache of what the registrar knows. Pure: what the stream says and time in, answers and wishes out.

Theory of operation. Who is asked about and not here is *missing*: the caller asks the registrar this once, and the
user goes on the list of those to be followed. The registrar answers with all that is known, and from then on with each
change; as long as the stream stands that is *certain*. When it breaks, skips a number, or says so itself, everything is
*doubtful*: the caller asks the registrar again, and takes what is here only where nobody answers. What the new stream
tells is certain again, one user after the other, those used last first.

Both tables drop who was not asked about for longest; names that nobody has stand in a table of their own, so that a
search through numbers does not drive real users out. What is doubtful for too long is not used at all.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pbx_signaling.directory.user import Binding, News, Update, User

AOR_MAX: Final = 128 + 1 + 253
"""Characters of a name that is followed: an account's user and domain have no more. Threat: names as large as a
message."""
UNKNOWN_MAX: Final = 2_000
"""Names kept that nobody has. Threat: callers who dial through all numbers."""
ASKED_MAX: Final = 500
"""Users asked for and not told yet: the registrar reads as many at once. Others wait here, or until they are used
again."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is known, and how long it serves."""

    users: int
    doubt_s: float
    """Seconds that what is known serves while the registrar cannot be asked."""


class Standing(enum.IntEnum):
    """What is known about a name."""

    MISSING = 0
    """Nothing: ask the registrar."""
    DOUBTFUL = 1
    """What was so once: ask the registrar, and take this where it does not answer."""
    CERTAIN = 2


@dataclass(frozen=True, slots=True)
class Look:
    """An answer of the directory."""

    standing: Standing
    user: User | None = None
    """None: nobody has this name (where it is not MISSING)."""


MISSING: Final = Look(Standing.MISSING)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is to be written to the stream; removals first."""

    follow: tuple[str, ...]
    unfollow: tuple[str, ...]


@dataclass(slots=True)
class _Entry:
    user: User | None
    doubted_at: float | None = None
    """None: certain."""


class Directory:
    """What is known of up to `users_max` users and `unknown_max` names that nobody has."""

    def __init__(self, users_max: int, doubt_max_s: float, unknown_max: int = UNKNOWN_MAX) -> None:
        self._users_max = users_max
        self._unknown_max = unknown_max
        self._doubt_max_s = doubt_max_s
        self._known: dict[str, _Entry] = {}
        self._unknown: dict[str, _Entry] = {}
        self._asked: dict[str, None] = {}
        self._follow: list[str] = []
        self._unfollow: dict[str, None] = {}
        self._again: list[str] = []
        """To be asked for anew, the last first."""
        self._revision = 0
        self.is_up = False
        """Whether the stream stands."""

    def __repr__(self) -> str:
        return f"<Directory {len(self._known)} users, {len(self._unknown)} unknown, {'up' if self.is_up else 'down'}>"

    @property
    def users(self) -> int:
        """Users held."""
        return len(self._known)

    @property
    def unknown(self) -> int:
        """Names held that nobody has."""
        return len(self._unknown)

    @property
    def doubtful(self) -> int:
        """Entries in doubt."""
        tables = (self._known, self._unknown)
        return sum(entry.doubted_at is not None for table in tables for entry in table.values())

    # --- questions

    def look(self, aor: str, now: float, *, if_room: bool = False) -> Look:
        """What is known about a name, user@domain with the domain in lower case. `drain` next: it may wish for more.

        `if_room`: nobody is dropped for it, and it does not count as used: phones that only register do not drive out
        those that call.
        """
        table = self._known if aor in self._known else self._unknown
        entry = table.get(aor)
        if entry is None:
            if not if_room or len(self._known) + len(self._asked) < self._users_max:
                self._wish(aor)
            return MISSING
        if not if_room:
            del table[aor]
            table[aor] = entry  # used last
        if entry.doubted_at is None:
            return Look(Standing.CERTAIN, entry.user)
        self._wish(aor)
        if now - entry.doubted_at > self._doubt_max_s:
            return MISSING
        return Look(Standing.DOUBTFUL, entry.user)

    def bound(self, aor: str, bindings: tuple[Binding, ...]) -> None:
        """A REGISTER of ours was carried out: these are its user's bindings now, before the stream says so."""
        entry = self._known.get(aor)
        if entry is not None and entry.user is not None and entry.doubted_at is None:
            entry.user = replace(entry.user, bindings=bindings)

    def _wish(self, aor: str) -> None:
        is_wished = aor in self._asked
        if self.is_up and not is_wished and len(self._asked) < ASKED_MAX and 0 < len(aor) <= AOR_MAX:
            self._ask(aor)

    def _ask(self, aor: str) -> None:
        self._asked[aor] = None
        self._unfollow.pop(aor, None)
        self._follow.append(aor)

    # --- the stream

    def up(self) -> None:
        """A stream stands: asks for everybody anew. `drain` next."""
        self.is_up, self._revision = True, 0
        self._asked.clear()
        self._follow.clear()
        self._unfollow.clear()
        self._again = [*self._unknown, *self._known]
        self._go_on()

    def down(self, now: float) -> None:
        """The stream broke, or its peer is silent: everything is in doubt."""
        self.is_up = False
        self._asked.clear()
        self._follow.clear()
        self._unfollow.clear()
        self._again.clear()
        self._doubt(now)

    def receive(self, update: Update, now: float) -> bool:
        """A message of the stream. False where one before it is missing: end the stream. `drain` next."""
        if update.revision != self._revision + 1:
            return False
        self._revision = update.revision
        if update.doubt:
            self._doubt(now)
        for told in update.told:
            self._take(told, now)
        self._go_on()
        return True

    @property
    def has_wishes(self) -> bool:
        """Whether there is something to write to the stream."""
        return bool(self._follow or self._unfollow)

    def drain(self) -> Wishes | None:
        """What to write to the stream; None for nothing."""
        if not self.has_wishes:
            return None
        wishes = Wishes(tuple(self._follow), tuple(self._unfollow))
        self._follow.clear()
        self._unfollow.clear()
        return wishes

    def _doubt(self, now: float) -> None:
        for table in (self._known, self._unknown):
            for entry in table.values():
                if entry.doubted_at is None:
                    entry.doubted_at = now

    def _take(self, told: News, now: float) -> None:
        aor = told.aor
        was_asked = aor in self._asked
        self._asked.pop(aor, None)
        held = self._known.get(aor) or self._unknown.get(aor)
        if told.failed:
            if held is not None and held.doubted_at is None:
                held.doubted_at = now
        elif held is not None and (held.user is None) == (told.user is None):
            held.user, held.doubted_at = told.user, None  # its place stays: nobody asked about it
        elif held is not None or was_asked:
            self._known.pop(aor, None)
            self._unknown.pop(aor, None)
            self._hold(aor, told.user)

    def _hold(self, aor: str, user: User | None) -> None:
        table, most = (self._unknown, self._unknown_max) if user is None else (self._known, self._users_max)
        while len(table) >= most:
            oldest = next(iter(table))
            del table[oldest]
            self._unfollow[oldest] = None
        table[aor] = _Entry(user)

    def _go_on(self) -> None:
        """Asks for more of those that are in doubt, so far as there is room."""
        room = ASKED_MAX // 2 - len(self._asked)  # the other half is for who is missing
        while self._again and room > 0:
            aor = self._again.pop()
            entry = self._known.get(aor) or self._unknown.get(aor)
            if entry is not None and entry.doubted_at is not None and aor not in self._asked:
                self._ask(aor)
                room -= 1
