"""Who is told what, and when: every change once read, none missed, nothing old after something new."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from pbx.registrar.v1 import registrar_pb2 as pb
from pbx_registrar import followers as module
from pbx_registrar.api.follow import user_message
from pbx_registrar.codec import ProtoCodec
from pbx_registrar.credentials import Account, FakeAccounts, Found
from pbx_registrar.followers import READS_MAX, Follower, Followers, Known
from pbx_registrar.notices import ACCOUNTS_CHANNEL, Notices
from pbx_registrar.storage.base import Done, Record, Write
from pbx_registrar.storage.memory import MemoryBindings
from pbx_registrar.storage.redis import CHANGES_CHANNEL
from pbx_runtime.errors import ResourceExhausted, Unavailable
from support.registrations import AOR, account, binding

NOBODY = "9@pbx.local"


class LateAccounts(FakeAccounts):
    """Accounts that are found when a test says so."""

    def __init__(self, *accounts: Account) -> None:
        super().__init__(*accounts)
        self.waiting: list[tuple[str, Found]] = []

    def find(self, aor: str, done: Found) -> None:
        self.waiting.append((aor, done))

    def go_on(self) -> int:
        """Answers those that wait; how many."""
        waiting, self.waiting = self.waiting, []
        for aor, done in waiting:
            super().find(aor, done)
        return len(waiting)


class Rig:
    def __init__(self, accounts: FakeAccounts | None = None) -> None:
        self.accounts = accounts or FakeAccounts(account())
        self.store = MemoryBindings()
        self.followers = Followers(self.accounts, self.store)
        self.wakes = 0

    def open(self) -> Follower:
        def wake() -> None:
            self.wakes += 1

        return self.followers.open(wake)

    def put(self, payload: bytes) -> None:
        done: Done[Record] = lambda record, error: None  # noqa: E731
        version = self.store.records.get(AOR, Record()).version
        self.store.write(Write(aor=AOR, expected=version, payload=payload), done)


@pytest.fixture
def rig() -> Rig:
    made = Rig()
    made.followers.renew()
    return made


def taken(follower: Follower) -> list[Known]:
    doubt, users = follower.take(1_000)
    assert not doubt
    return users


def test_a_follower_is_told_now_and_at_each_change(rig: Rig) -> None:
    follower = rig.open()
    rig.followers.follow(follower, AOR)
    assert taken(follower) == [Known(AOR, account())]
    rig.put(b"bindings")
    rig.followers.changed(AOR)
    assert taken(follower) == [Known(AOR, account(), b"bindings")]
    rig.followers.changed(NOBODY)
    assert not follower.has_news
    rig.followers.unfollow(follower, AOR)
    rig.followers.changed(AOR)
    assert not follower.has_news
    assert rig.followers.followed == 0


def test_each_follower_is_told_of_its_own(rig: Rig) -> None:
    one, other = rig.open(), rig.open()
    rig.followers.follow(one, AOR)
    rig.followers.follow(other, NOBODY)
    assert taken(one) == [Known(AOR, account())]
    assert taken(other) == [Known(NOBODY)]
    rig.followers.follow(other, AOR)
    assert taken(other) == [Known(AOR, account())]
    assert not one.has_news
    rig.followers.close(one)
    rig.followers.changed(AOR)
    assert not one.has_news
    assert other.has_news
    assert (len(rig.followers), rig.followers.followed) == (1, 2)


def test_a_slow_follower_gets_the_newest_only(rig: Rig) -> None:
    follower = rig.open()
    rig.followers.follow(follower, AOR)
    for payload in (b"1", b"2", b"3"):
        rig.put(payload)
        rig.followers.changed(AOR)
    assert taken(follower) == [Known(AOR, account(), b"3")]


def test_a_change_while_it_is_read_makes_it_be_read_again() -> None:
    accounts = LateAccounts(account())
    rig = Rig(accounts)
    rig.followers.renew()
    one, other = rig.open(), rig.open()
    rig.followers.follow(one, AOR)
    rig.followers.changed(AOR)
    rig.followers.follow(other, AOR)
    assert accounts.go_on() == 1
    assert not one.has_news, "what was read may be old"
    accounts.by_aor[AOR] = replace(account(), display_name="new")
    assert accounts.go_on() == 1
    assert taken(one) == taken(other) == [Known(AOR, accounts.by_aor[AOR])]
    assert accounts.go_on() == 0


def test_without_notices_all_is_in_doubt_and_told_anew_when_they_come(rig: Rig) -> None:
    follower = rig.open()
    rig.followers.follow(follower, AOR)
    rig.followers.doubt()
    assert follower.take(10) == (True, []), "what was read before the doubt is not told"
    rig.followers.follow(follower, NOBODY)
    rig.followers.changed(AOR)
    assert not follower.has_news, "a change may follow unseen"
    rig.followers.renew()
    doubt, users = follower.take(10)
    assert doubt
    assert {known.aor for known in users} == {AOR, NOBODY}


def test_what_was_being_read_when_notices_ended_is_not_told() -> None:
    accounts = LateAccounts(account())
    rig = Rig(accounts)
    rig.followers.renew()
    follower = rig.open()
    rig.followers.follow(follower, AOR)
    rig.followers.doubt()
    accounts.go_on()
    assert follower.take(10) == (True, [])
    rig.followers.renew()
    accounts.go_on()
    assert follower.take(10) == (True, [Known(AOR, account())])


@pytest.mark.parametrize("part", ["accounts", "store"])
def test_what_cannot_be_read_is_told_as_such_and_not_followed(rig: Rig, part: str) -> None:
    follower = rig.open()
    rig.followers.follow(follower, AOR)
    taken(follower)
    getattr(rig, part).error = Unavailable("away")
    rig.followers.changed(AOR)
    assert taken(follower) == [Known(AOR, failed=True)]
    assert follower.followed == {}
    getattr(rig, part).error = None
    rig.followers.changed(AOR)
    assert not follower.has_news


def test_all_may_fail_when_all_are_read_anew(rig: Rig) -> None:
    follower = rig.open()
    for aor in (AOR, NOBODY):
        rig.followers.follow(follower, aor)
    rig.accounts.error = Unavailable("away")
    rig.followers.renew()
    assert {known.failed for known in follower.take(10)[1]} == {True}
    assert rig.followers.followed == 0


def test_only_so_many_are_read_at_once() -> None:
    accounts = LateAccounts()
    rig = Rig(accounts)
    rig.followers.renew()
    follower = rig.open()
    for number in range(READS_MAX + 10):
        rig.followers.follow(follower, f"{number}@pbx.local")
    assert accounts.go_on() == READS_MAX
    assert accounts.go_on() == 10
    assert len(taken(follower)) == READS_MAX + 10


def test_very_many_that_are_at_hand_do_not_nest(rig: Rig) -> None:
    follower = rig.open()
    for number in range(5_000):
        rig.followers.follow(follower, f"{number}@pbx.local")
    rig.followers.renew()
    assert len(follower.take(10_000)[1]) == 5_000


def test_followers_and_what_they_follow_are_limited(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FOLLOWERS_MAX", 1)
    monkeypatch.setattr(module, "FOLLOWED_MAX", 1)
    follower = rig.open()
    with pytest.raises(ResourceExhausted):
        rig.open()
    rig.followers.follow(follower, AOR)
    with pytest.raises(ResourceExhausted):
        rig.followers.follow(follower, NOBODY)


class Sql:
    """A database."""

    def __init__(self, *accounts: Account) -> None:
        self.by_aor = {each.aor: each for each in accounts}

    async def load(self, aors: Sequence[str]) -> dict[str, Account]:
        return {aor: self.by_aor[aor] for aor in aors if aor in self.by_aor}


async def test_accounts_that_changed_without_a_notice_are_found(rig: Rig) -> None:
    follower = rig.open()
    for aor in (AOR, NOBODY):
        rig.followers.follow(follower, aor)
    assert await rig.followers.recheck(Sql(account())) == []
    assert await rig.followers.recheck(Sql(replace(account(), calls_max=3))) == [AOR]
    assert set(await rig.followers.recheck(Sql(account("9")))) == {AOR, NOBODY}


class Cache:
    """What notices forget and doubt."""

    def __init__(self) -> None:
        self.forgotten: list[str] = []
        self.doubts = 0

    def forget(self, aor: str) -> None:
        self.forgotten.append(aor)

    def doubt_all(self) -> None:
        self.doubts += 1


def notice(revision: int, aor: str = AOR) -> bytes:
    message = pb.WatchResponse(change=pb.CHANGE_ADDED, revision=revision)
    message.binding.aor = aor
    return message.SerializeToString()


def test_notices_reach_followers_and_a_gap_in_their_numbers_renews_all(rig: Rig) -> None:
    cache = Cache()
    notices = Notices(cache, rig.followers, ProtoCodec.notice)
    notices.stand()
    follower = rig.open()
    rig.followers.follow(follower, AOR)
    taken(follower)
    notices.received(CHANGES_CHANNEL, notice(7))
    notices.received(CHANGES_CHANNEL, notice(8, NOBODY))
    assert taken(follower) == [Known(AOR, account())]
    notices.received(CHANGES_CHANNEL, notice(0, NOBODY))  # of a registrar of the release before
    notices.received(CHANGES_CHANNEL, notice(11, NOBODY))
    assert not follower.has_news
    notices.received(CHANGES_CHANNEL, notice(13, NOBODY))
    assert follower.take(10) == (True, [Known(AOR, account())])
    assert (notices.gaps, cache.doubts) == (1, 2)
    notices.received(ACCOUNTS_CHANNEL, AOR.encode())
    assert cache.forgotten == [AOR]
    assert taken(follower) == [Known(AOR, account())]
    assert notices.broken()
    assert follower.take(10) == (True, [])
    assert not notices.broken()


def test_the_message_of_a_user_is_whole() -> None:
    known = account()
    payload = ProtoCodec("r").encode([binding()])
    message = user_message(Known(AOR, known, payload))
    assert (message.known, message.user, message.display_name) == (True, "1004", "Phone 1004")
    assert dict(message.ha1) == known.ha1
    assert dict(message.ha1_of_aor) == known.ha1_of_aor
    assert [each.uri for each in message.bindings] == ["sip:1004@192.0.2.4:5060"]
    assert user_message(Known(AOR)) == pb.User(aor=AOR)
    assert user_message(Known(AOR, failed=True)) == pb.User(aor=AOR, failed=True)
    assert known.ha1["MD5"] not in repr(Known(AOR, known, payload))
