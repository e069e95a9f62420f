"""The cache of accounts: batches, times to live, invalidation, a database that is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import pytest

from pbx_registrar import account_cache
from pbx_registrar.account_cache import TTL_S, UNKNOWN_TTL_S, AccountCache
from pbx_registrar.answer import answer
from pbx_registrar.credentials import Account
from pbx_runtime.clock import ManualClock
from pbx_runtime.errors import ResourceExhausted, ServiceError, Unavailable
from support.eventually import eventually
from support.registrations import account


@dataclass
class Source:
    """Accounts in a dict; counts what is asked, and can be held or fail."""

    accounts: dict[str, Account] = field(default_factory=dict)
    asked: list[list[str]] = field(default_factory=list)
    error: ServiceError | None = None
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def load(self, aors: Sequence[str]) -> dict[str, Account]:
        self.asked.append(list(aors))
        found = {aor: self.accounts[aor] for aor in aors if aor in self.accounts}
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return found


@dataclass
class Rig:
    source: Source
    clock: ManualClock
    cache: AccountCache
    states: list[ServiceError | None]


@pytest.fixture
async def rig(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    monkeypatch.setattr(account_cache, "RETRY_S", 0)
    source, clock = Source(), ManualClock()
    source.gate.set()
    for user in ("1004", "1008"):
        source.accounts[f"{user}@pbx.local"] = account(user)
    states: list[ServiceError | None] = []
    cache = AccountCache(source, clock, states.append)
    running = asyncio.ensure_future(cache.run())
    yield Rig(source, clock, cache, states)
    running.cancel()
    await asyncio.wait({running})


async def find(rig: Rig, user: str) -> Account | None:
    return await answer(rig.cache.find, f"{user}@pbx.local")


async def test_an_account_is_loaded_once_and_then_answered_at_once(rig: Rig) -> None:
    assert await find(rig, "1004") == account("1004")
    answers: list[Account | None] = []
    rig.cache.find("1004@pbx.local", lambda found, error: answers.append(found))
    assert answers == [account("1004")]
    assert len(rig.source.asked) == 1


async def test_what_is_asked_in_one_turn_is_loaded_in_one_batch(rig: Rig) -> None:
    found = await asyncio.gather(*(find(rig, user) for user in ("1004", "1008", "9999", "1004")))
    assert [each.user if each else None for each in found] == ["1004", "1008", None, "1004"]
    assert [sorted(batch) for batch in rig.source.asked] == [["1004@pbx.local", "1008@pbx.local", "9999@pbx.local"]]


@pytest.mark.parametrize("user", ["\x00", "a\x00b", "a\nb", "9" * 400, "\ud800"])
async def test_a_name_that_no_account_has_is_not_asked_for(rig: Rig, user: str) -> None:
    assert await find(rig, user) is None
    assert not rig.source.asked


async def test_a_known_account_is_loaded_again_after_its_time(rig: Rig) -> None:
    await find(rig, "1004")
    rig.clock.advance(TTL_S + 0.1)
    del rig.source.accounts["1004@pbx.local"]
    assert await find(rig, "1004") is None


async def test_an_unknown_user_is_asked_for_again_soon(rig: Rig) -> None:
    assert await find(rig, "2001") is None
    rig.source.accounts["2001@pbx.local"] = account("2001")
    assert await find(rig, "2001") is None
    rig.clock.advance(UNKNOWN_TTL_S + 0.1)
    assert await find(rig, "2001") == account("2001")


async def test_a_changed_account_is_loaded_anew(rig: Rig) -> None:
    await find(rig, "1004")
    rig.source.accounts["1004@pbx.local"] = account("1004", "new")
    rig.cache.forget("1004@pbx.local")
    assert await find(rig, "1004") == account("1004", "new")


async def test_a_load_that_a_change_overtook_is_not_kept(rig: Rig) -> None:
    rig.source.gate.clear()
    early = asyncio.ensure_future(find(rig, "1004"))
    await eventually(lambda: rig.source.asked)
    rig.source.accounts["1004@pbx.local"] = account("1004", "new")
    rig.cache.forget("1004@pbx.local")
    rig.source.gate.set()
    await early
    assert await find(rig, "1004") == account("1004", "new")


async def test_doubt_asks_anew_and_falls_back_on_what_is_there(rig: Rig) -> None:
    await find(rig, "1004")
    rig.cache.doubt_all()
    rig.source.error = Unavailable("away")
    assert await find(rig, "1004") == account("1004")
    rig.source.error = None
    rig.source.accounts["1004@pbx.local"] = account("1004", "new")
    assert await find(rig, "1004") == account("1004", "new")


async def test_a_database_that_is_away_is_an_error_for_whom_was_never_seen(rig: Rig) -> None:
    rig.source.error = Unavailable("away")
    with pytest.raises(Unavailable):
        await find(rig, "1004")
    rig.source.error = None
    assert await find(rig, "1004") == account("1004")
    assert [state is None for state in rig.states] == [False, True]


async def test_an_entry_past_its_time_serves_while_the_database_is_away(rig: Rig) -> None:
    await find(rig, "1004")
    rig.clock.advance(TTL_S + 1)
    rig.source.error = Unavailable("away")
    assert await find(rig, "1004") == account("1004")


async def test_a_search_through_numbers_does_not_drive_accounts_out(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account_cache, "UNKNOWN_MAX", 5)
    await find(rig, "1004")
    for number in range(50):
        await find(rig, f"x{number}")
    asked = len(rig.source.asked)
    await find(rig, "1004")
    assert (len(rig.source.asked), len(rig.cache)) == (asked, 1)


async def test_known_accounts_are_bounded_too(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account_cache, "ENTRIES_MAX", 1)
    await find(rig, "1004")
    await find(rig, "1008")
    assert len(rig.cache) == 1


async def test_waiting_is_bounded(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account_cache, "WAITING_MAX", 1)
    rig.source.gate.clear()
    waiting = asyncio.ensure_future(find(rig, "1004"))
    await asyncio.sleep(0)
    with pytest.raises(ResourceExhausted):
        await answer(rig.cache.find, "1008@pbx.local")
    rig.source.gate.set()
    assert await waiting == account("1004")
