"""Who follows whom, and what each follower was not told yet. Callbacks in, callbacks out; no task, no generated type.

Theory of operation. A follower (a signaling instance's stream) names addresses-of-record. For each the account and the
record are read, and read again whenever a notice says that one of them changed; what was read is whole, so that what is
told later replaces what was told before, and nothing has to be added up. One address-of-record is read once at a time:
a notice that comes meanwhile makes it be read once more. What a slow follower did not take yet is one entry a user,
the newest.

Notices come over Redis, from the replica that made the change, this one too. While they do not, what followers know is
in doubt (`doubt`), and when they come again all is read and told anew (`renew`). A change of an account whose notice
never came (its registrar died in between, or somebody wrote into SQL) is found by `recheck`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from pbx_registrar.account_cache import BATCH_MAX, Source
from pbx_registrar.credentials import Account, Accounts
from pbx_registrar.storage.base import BindingStore, Record
from pbx_runtime.errors import ResourceExhausted, ServiceError

FOLLOWERS_MAX: Final = 256
"""Streams at once: instances of signaling, and those of theirs that are not known to be broken yet."""
FOLLOWED_MAX: Final = 300_000
"""Users of one follower; signaling's own limit is below it."""
READS_MAX: Final = 500
"""Users read at once; more wait. Threat: after a break of Redis all are read, and calls must not wait behind them."""


@dataclass(frozen=True, slots=True)
class Known:
    """All that is known of an address-of-record now."""

    aor: str
    account: Account | None = None
    payload: bytes = b""
    """Its record, as stored."""
    failed: bool = False
    """It could not be read, and is not followed any more."""


@dataclass(slots=True, eq=False)
class Follower:
    """One stream."""

    wake: Callable[[], None]
    """Called where there is something to tell."""
    followed: dict[str, None] = field(default_factory=dict)
    _untold: dict[str, Known] = field(default_factory=dict)
    _doubt: bool = False

    @property
    def has_news(self) -> bool:
        """Whether there is something to tell."""
        return self._doubt or bool(self._untold)

    def tell(self, known: Known) -> None:
        """What is known of a user now; drops what was not told before."""
        self._untold.pop(known.aor, None)
        self._untold[known.aor] = known
        self.wake()

    def doubt(self) -> None:
        """Nothing that was told is sure any more."""
        self._doubt = True
        self._untold.clear()  # read before the doubt
        self.wake()

    def take(self, most: int) -> tuple[bool, list[Known]]:
        """What to tell next: whether all before is in doubt, and users."""
        doubt, self._doubt = self._doubt, False
        users = list(islice(self._untold.values(), most))
        for known in users:
            del self._untold[known.aor]
        return doubt, users


@dataclass(slots=True)
class _Read:
    """A user that is being read, or waits for that."""

    wanted: set[Follower]
    again: bool = False
    """It changed meanwhile."""


class Followers:
    """All followers of one replica."""

    def __init__(self, accounts: Accounts, store: BindingStore) -> None:
        self._accounts = accounts
        self._store = store
        self._followers: set[Follower] = set()
        self._of: dict[str, set[Follower]] = {}
        self._told: dict[str, Account | None] = {}
        """The account of each followed user, as it was read last."""
        self._reads: dict[str, _Read] = {}
        self._waiting: dict[str, None] = {}
        """Users of `_reads` whose turn has not come."""
        self._running = 0
        self._is_starting = False
        self._is_standing = False
        self.updates = 0
        """Users told, to all followers together."""

    def __repr__(self) -> str:
        return f"<Followers {len(self._followers)} of {len(self._of)} users, {len(self._reads)} being read>"

    def __len__(self) -> int:
        return len(self._followers)

    @property
    def is_standing(self) -> bool:
        """Whether notices come."""
        return self._is_standing

    @property
    def followed(self) -> int:
        """Users that somebody follows."""
        return len(self._of)

    def open(self, wake: Callable[[], None]) -> Follower:
        """A new follower. Raises ResourceExhausted."""
        if len(self._followers) >= FOLLOWERS_MAX:
            raise ResourceExhausted(f"{FOLLOWERS_MAX} followers are there already")
        follower = Follower(wake)
        self._followers.add(follower)
        return follower

    def close(self, follower: Follower) -> None:
        """Forgets a follower whose stream ended, and whom it alone followed."""
        self._followers.discard(follower)
        for aor in list(follower.followed):
            self.unfollow(follower, aor)

    def follow(self, follower: Follower, aor: str) -> None:
        """Tells a follower of a user, now and from now on. Raises ResourceExhausted."""
        if len(follower.followed) >= FOLLOWED_MAX:
            raise ResourceExhausted(f"more than {FOLLOWED_MAX} users followed")
        follower.followed[aor] = None
        self._of.setdefault(aor, set()).add(follower)
        if self._is_standing:  # else `renew` will
            self._read(aor, {follower})

    def unfollow(self, follower: Follower, aor: str) -> None:
        """Tells a follower of a user no more."""
        if aor not in follower.followed:
            return
        del follower.followed[aor]
        followers = self._of[aor]
        followers.discard(follower)
        if not followers:
            del self._of[aor]
            self._told.pop(aor, None)

    # --- notices

    def changed(self, aor: str) -> None:
        """A user's account or bindings changed."""
        followers = self._of.get(aor)
        if followers and self._is_standing:
            self._read(aor, followers)

    def doubt(self) -> None:
        """Notices may be lost from now on."""
        self._is_standing = False
        for follower in self._followers:
            follower.doubt()

    def renew(self) -> None:
        """Notices come from now on: what was told before may be old."""
        self._is_standing = True
        for follower in self._followers:
            follower.doubt()
        for aor, followers in list(self._of.items()):  # one that cannot be read is followed no more
            self._read(aor, followers)

    async def recheck(self, source: Source) -> list[str]:
        """Followed users whose account is another one than was told. Raises ServiceError."""
        found: list[str] = []
        aors = list(self._told)
        for start in range(0, len(aors), BATCH_MAX):
            found.extend(await self._differing(source, aors[start : start + BATCH_MAX]))
        return found

    async def _differing(self, source: Source, aors: Sequence[str]) -> list[str]:
        before = {aor: self._told[aor] for aor in aors if aor in self._told}
        accounts = await source.load(list(before))
        return [aor for aor, account in before.items() if accounts.get(aor) != account]

    # --- reading

    def _read(self, aor: str, wanted: set[Follower]) -> None:
        read = self._reads.get(aor)
        if read is None:
            self._reads[aor] = _Read(set(wanted))
            self._waiting[aor] = None
            self._run()
        else:
            read.wanted |= wanted
            read.again = aor not in self._waiting

    def _run(self) -> None:
        if self._is_starting:  # an answer that was at hand: the loop below goes on
            return
        self._is_starting = True
        while self._waiting and self._running < READS_MAX:
            aor = next(iter(self._waiting))
            del self._waiting[aor]
            self._running += 1
            self._start(aor, self._reads[aor])
        self._is_starting = False

    def _start(self, aor: str, read: _Read) -> None:
        read.again = False

        def found(account: Account | None, error: ServiceError | None) -> None:
            if error is not None:
                self._done(Known(aor, failed=True), read)
            elif account is None:
                self._done(Known(aor), read)
            else:
                self._store.read(aor, lambda record, error: has_read(account, record))

        def has_read(account: Account, record: Record | None) -> None:
            known = Known(aor, account, record.payload) if record is not None else Known(aor, failed=True)
            self._done(known, read)

        self._accounts.find(aor, found)

    def _done(self, known: Known, read: _Read) -> None:
        if read.again:
            self._start(known.aor, read)
            return
        del self._reads[known.aor]
        self._running -= 1
        if self._is_standing:  # else it may have changed unseen meanwhile, and `renew` will read it again
            for follower in read.wanted:
                self._tell(follower, known)
        self._run()

    def _tell(self, follower: Follower, known: Known) -> None:
        if known.aor not in follower.followed:
            return
        self.updates += 1
        follower.tell(known)
        if known.failed:
            self.unfollow(follower, known.aor)
        else:
            self._told[known.aor] = known.account
