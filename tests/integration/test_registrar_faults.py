"""Two replicas, and what happens when Redis, SQL or a replica goes away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from pbx.registrar.v1 import registrar_pb2 as pb
from support.eventually import eventually
from support.ports import free_port
from support.redis_server import RedisServer, redis_server
from support.registrar_process import (
    DOMAIN,
    NONCES,
    Caller,
    RegistrarProcess,
    caller,
    credentials,
    register_request,
    registrar_pair,
    registrar_process,
    told,
)
from support.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("registrar")]


@pytest.fixture(scope="module")
def replicas(redis: RedisServer) -> Iterator[tuple[RegistrarProcess, RegistrarProcess]]:
    """Two that share Redis and the database, started at once on an empty one."""
    with registrar_pair(redis) as pair:
        yield pair


@pytest.fixture
async def callers(replicas: tuple[RegistrarProcess, RegistrarProcess]) -> AsyncIterator[tuple[Caller, Caller]]:
    async with caller(replicas[0]) as one, caller(replicas[1]) as other:
        yield one, other


async def test_what_one_replica_stored_the_other_finds(callers: tuple[Caller, Caller]) -> None:
    one, other = callers
    await one.put("1004")
    registered = await one.register("1004")
    assert list((await other.lookup("1004")).bindings) == list(registered.bindings)
    assert (await other.register("1004", cseq=registered.bindings[0].cseq)).status == 500


async def test_a_nonces_count_is_good_at_one_replica_only(callers: tuple[Caller, Caller]) -> None:
    one, other = callers
    await one.put("1005")
    proof = credentials("1005", nonce=NONCES.mint(time.time(), "192.0.2.4"))
    answers = await asyncio.gather(*(c.register("1005", proof=proof) for c in (one, other, one, other)))
    assert sorted(answer.status for answer in answers) == [200, 401, 401, 401]
    assert sum(answer.stale for answer in answers) == 3


async def test_failures_at_one_replica_count_at_the_other(callers: tuple[Caller, Caller]) -> None:
    one, other = callers
    await one.put("1006")
    for number in range(6):
        wrong = credentials("1006", "guess", host="192.0.2.60")
        assert (await callers[number % 2].register("1006", proof=wrong)).status == 403
    wrong = credentials("1006", "guess", method="INVITE", host="192.0.2.60")
    verdict = (await other.ask(authenticate=wrong)).authenticate
    assert verdict.verdict == pb.VERDICT_THROTTLED
    assert verdict.retry_after_s > 0
    elsewhere = credentials("1006", "guess", method="INVITE", host="192.0.2.61")
    assert (await other.ask(authenticate=elsewhere)).authenticate.verdict == pb.VERDICT_REJECTED
    right = credentials("1006", method="INVITE", host="192.0.2.60")
    assert (await other.ask(authenticate=right)).authenticate.verdict == pb.VERDICT_ACCEPTED


async def test_a_changed_account_counts_at_the_other_replica_within_a_second(callers: tuple[Caller, Caller]) -> None:
    one, other = callers
    await one.put("1007", "old")
    assert (await other.register("1007", proof=credentials("1007", "old"))).status == 200
    await one.put("1007", "new")
    await asyncio.sleep(1)
    assert (await other.register("1007", proof=credentials("1007", "new"))).status == 200
    await one.accounts.DeleteAccount(pb.DeleteAccountRequest(user="1007"))
    await asyncio.sleep(1)
    assert not (await other.lookup("1007")).known


async def test_phones_of_one_user_at_both_replicas_lose_no_binding(
    callers: tuple[Caller, Caller], redis: RedisServer
) -> None:
    await callers[0].put("1008")
    uris = [f"sip:1008@192.0.2.{number}:5060" for number in range(10)]
    answers = await asyncio.gather(
        *(callers[n % 2].register("1008", uri=uri, call_id=f"phone-{n}") for n, uri in enumerate(uris))
    )
    assert [answer.status for answer in answers] == [200] * 10
    found = await callers[0].lookup("1008")
    assert sorted(binding.uri for binding in found.bindings) == sorted(uris)
    assert told(redis, "registration_added", f"1008@{DOMAIN}") == 10


async def test_the_end_of_bindings_is_told_once_by_both_replicas_together(
    callers: tuple[Caller, Caller], redis: RedisServer
) -> None:
    users = [str(number) for number in range(1100, 1120)]
    for user in users:
        await callers[0].put(user)
    await asyncio.gather(*(callers[int(user) % 2].register(user, expires_s=1) for user in users))

    def expired() -> list[int]:
        return [told(redis, "registration_expired", f"{user}@{DOMAIN}") for user in users]

    until(lambda: all(expired()), timeout_s=15, what="20 times registration.expired")
    await asyncio.sleep(1.2)
    assert expired() == [1] * 20


async def test_a_watcher_at_one_replica_sees_changes_at_the_other(callers: tuple[Caller, Caller]) -> None:
    one, other = callers
    await one.put("1009")
    stream = one.registrar.Watch(pb.WatchRequest(aor=f"1009@{DOMAIN}"))
    await stream.initial_metadata()
    await other.register("1009")
    change = await asyncio.wait_for(stream.read(), 5)
    assert (change.change, change.binding.aor) == (pb.CHANGE_ADDED, f"1009@{DOMAIN}")
    stream.cancel()


async def test_a_killed_replica_takes_nothing_with_it(redis: RedisServer) -> None:
    with registrar_process(redis) as first:
        async with caller(first) as signaling:
            await signaling.put("1200")
            assert (await signaling.register("1200")).status == 200
        first.kill()
        second = RegistrarProcess(redis, first.data)
        try:
            second.start()
            async with caller(second) as signaling:
                found = await signaling.lookup("1200")
                assert (found.known, len(found.bindings)) == (True, 1)
        finally:
            second.kill()


@pytest.mark.parametrize("fault", ["killed", "hanging"])
async def test_redis_goes_away_and_comes_back(fault: str) -> None:
    with redis_server() as redis, registrar_process(redis) as replica:
        async with caller(replica) as signaling:
            await signaling.put("1004")
            assert (await signaling.register("1004")).status == 200
            redis.kill() if fault == "killed" else redis.pause()
            lookup = pb.LookupRequest(aor=f"1004@{DOMAIN}")
            result = await signaling.ask(lookup=lookup)
            assert result.HasField("error")
            assert result.error.retry_after_s > 0
            for command in ({"register": register_request("1004")}, {"authenticate": credentials("1004")}):
                assert (await signaling.ask(**command)).HasField("error")
            await asyncio.to_thread(
                until, lambda: replica.status("/readyz") == 503, timeout_s=5, what="readiness goes red"
            )
            assert replica.status("/healthz") == 200
            redis.start() if fault == "killed" else redis.resume()
            await asyncio.to_thread(until, lambda: replica.answers("/readyz"), timeout_s=15, what="ready again")
            assert (await signaling.register("1004")).status == 200
            assert len((await signaling.lookup("1004")).bindings) == 1
        assert not replica.died()
        assert "Traceback" not in replica.log


async def test_a_database_that_is_not_there_is_an_error_and_no_crash(redis: RedisServer, tmp_path: Path) -> None:
    url = f"postgresql://pbx:top-secret@127.0.0.1:{free_port()}/pbx"
    replica = RegistrarProcess(redis, tmp_path, {"DATABASE_URL": url})
    try:
        replica.start(ready=False)
        async with caller(replica) as signaling:
            result = await signaling.ask(lookup=pb.LookupRequest(aor=f"1004@{DOMAIN}"))
            assert result.HasField("error")
        assert replica.status("/readyz") == 503
        assert "top-secret" not in replica.log
        assert replica.stop() == 0
    finally:
        replica.kill()


async def test_a_locked_database_serves_whom_it_knows(redis: RedisServer) -> None:
    import sqlite3

    with registrar_process(redis) as replica:
        async with caller(replica) as signaling:
            await signaling.put("1300")
            assert (await signaling.register("1300")).status == 200
            with sqlite3.connect(replica.data / "registrar.sqlite", isolation_level=None) as connection:
                connection.execute("BEGIN EXCLUSIVE")
                assert (await signaling.register("1300")).status == 200
                assert (await signaling.lookup("1300")).known
                connection.execute("ROLLBACK")
            connection.close()
            await eventually(lambda: replica.answers("/readyz"), timeout_s=10, what="ready")
