"""One suite for every authentication ledger: memory, and a real Redis. Time is an argument in both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from pbx_registrar.answer import answer
from pbx_registrar.storage.base import AuthLedger, Failure, Proof, Refusals
from pbx_registrar.storage.memory_ledger import MemoryLedger
from pbx_registrar.storage.redis_ledger import RedisLedger
from pbx_registrar.throttle import ACCOUNT, PAIR, REPORT_MS, SOURCE
from pbx_runtime.redis_pipe import PipelinedRedis
from support.redis_server import RedisServer, redis_server


@dataclass
class Rig:
    ledger: AuthLedger
    events: Any
    now_ms: int = field(default=1_700_000_000_000)

    async def fail(self, source: str = "192.0.2.9", account: str = "1004@x", user: str = "1004") -> int:
        failure = Failure(source=source, account=account, user=user, method="REGISTER", now_ms=self.now_ms)
        wait_ms = await answer(self.ledger.fail, failure)
        assert wait_ms is not None
        return wait_ms

    async def admit(self, nonce: str) -> bool:
        fresh = await answer(self.ledger.admit, Proof(nonce=nonce, lifetime_ms=300_000, now_ms=self.now_ms))
        assert fresh is not None
        return fresh

    async def unreported(self) -> list[Refusals]:
        return await answer(self.ledger.unreported, self.now_ms, 100) or []


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


@pytest.fixture(params=["memory", "redis"])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    if request.param == "memory":
        memory = MemoryLedger()

        async def kept() -> list[bytes]:
            return memory.events

        yield Rig(memory, kept)
        return
    redis = PipelinedRedis(request.getfixturevalue("server").url)
    running = asyncio.ensure_future(redis.run())
    await redis.submit("FLUSHALL")

    async def written() -> list[bytes]:
        return [fields[1] for _, fields in await redis.submit("XRANGE", "evt:outbox", "-", "+")]

    yield Rig(RedisLedger(redis, b"k" * 32), written)
    running.cancel()
    await asyncio.wait({running})


async def test_a_nonces_count_is_good_once(rig: Rig) -> None:
    assert await rig.admit("n1") is True
    assert await rig.admit("n1") is False
    assert await rig.admit("n2") is True


async def test_of_replicas_at_once_one_admits(rig: Rig) -> None:
    admissions = await asyncio.gather(*(rig.admit("n1") for _ in range(10)))
    assert sum(admissions) == 1


async def test_failures_within_the_free_ones_tell_nobody_to_wait(rig: Rig) -> None:
    for _ in range(PAIR.free + 1):
        assert await rig.fail() == 0


async def test_one_failure_more_waits_and_whoever_is_right_does_not(rig: Rig) -> None:
    for _ in range(PAIR.free + 1):
        await rig.fail()
    assert await rig.fail() == PAIR.first_ms
    assert await rig.admit("n1") is True
    rig.now_ms += PAIR.first_ms
    assert await rig.fail() == 0


async def test_each_failure_beyond_doubles_the_wait_up_to_the_most(rig: Rig) -> None:
    for _ in range(PAIR.free):
        await rig.fail()
    waits = []
    for _ in range(4):
        await rig.fail()
        waits.append(await rig.fail())
        rig.now_ms += waits[-1]
    assert waits == [2_000, 4_000, 8_000, 16_000]


async def test_failures_while_waiting_do_not_prolong_it(rig: Rig) -> None:
    for _ in range(PAIR.free + 1):
        await rig.fail()
    for _ in range(50):
        assert await rig.fail() == PAIR.first_ms


async def test_a_pair_that_waits_leaves_other_accounts_and_other_sources_alone(rig: Rig) -> None:
    for _ in range(PAIR.free + 1):
        await rig.fail()
    assert await rig.fail(account="1008@x") == 0
    assert await rig.fail(source="192.0.2.10") == 0


async def test_a_search_through_accounts_holds_its_source(rig: Rig) -> None:
    for number in range(SOURCE.free + 1):
        assert await rig.fail(account=f"{number}@x") == 0
    assert await rig.fail(account="1004@x") == SOURCE.first_ms
    assert await rig.fail(account="1004@x", source="192.0.2.10") == 0


async def test_a_search_from_many_sources_holds_those_that_failed_before(rig: Rig) -> None:
    for number in range(ACCOUNT.free + 1):
        assert await rig.fail(source=f"10.0.0.{number}") == 0
    assert await rig.fail(source="10.0.0.1") == ACCOUNT.first_ms
    assert await rig.fail(source="192.0.2.9") == 0


async def test_names_of_any_length_make_keys_of_one_and_tell_nothing(server: RedisServer) -> None:
    redis = PipelinedRedis(server.url)
    running = asyncio.ensure_future(redis.run())
    await redis.submit("FLUSHALL")
    ledger = RedisLedger(redis, b"k" * 32)
    for number in range(8):
        name = f"victim{number}" + "x" * 500 * number
        failure = Failure(source="192.0.2.9", account=f"{name}@x", user=name[:64], method="INVITE", now_ms=1)
        await answer(ledger.fail, failure)
    keys = [key.decode() for key in await redis.submit("KEYS", "reg:[fw]:*")]
    assert len(keys) == 17
    assert all("victim" not in key and "192.0.2" not in key and len(key) < 48 for key in keys), keys
    running.cancel()
    await asyncio.wait({running})


async def test_refusals_are_told_once_a_period_with_their_count(rig: Rig) -> None:
    await rig.fail(user="first")
    await rig.fail(user="last")
    assert await rig.unreported() == []
    rig.now_ms += REPORT_MS
    assert await rig.unreported() == [Refusals("192.0.2.9", 2, "last", "REGISTER")]
    (refusals,) = await rig.unreported()
    assert await answer(rig.ledger.report, refusals, b"event") is True
    assert await answer(rig.ledger.report, refusals, b"event") is False
    assert (await rig.unreported(), await rig.events()) == ([], [b"event"])


async def test_a_failure_in_between_is_not_lost(rig: Rig) -> None:
    await rig.fail()
    rig.now_ms += REPORT_MS
    (before,) = await rig.unreported()
    await rig.fail()
    assert await answer(rig.ledger.report, before, b"event") is False
    (after,) = await rig.unreported()
    assert after.count == 2
    assert await answer(rig.ledger.report, after, b"event") is True
    assert await rig.events() == [b"event"]


async def test_failures_while_blocked_are_told_too(rig: Rig) -> None:
    for _ in range(PAIR.free + 10):
        await rig.fail()
    rig.now_ms += REPORT_MS
    assert [each.count for each in await rig.unreported()] == [PAIR.free + 10]


async def test_sources_beyond_the_most_are_told_together(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("memory_ledger", "redis_ledger"):
        monkeypatch.setattr(f"pbx_registrar.storage.{module}.SOURCES_MAX", 2)
    for number in range(5):
        await rig.fail(source=f"10.0.0.{number}")
    rig.now_ms += REPORT_MS
    counts = {each.source: each.count for each in await rig.unreported()}
    assert counts == {"10.0.0.0": 1, "10.0.0.1": 1, "": 3}
