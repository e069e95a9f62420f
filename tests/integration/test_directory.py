"""What signaling knows of users, with two registrars, two instances and a real Redis."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from pbx.registrar.v1 import registrar_pb2 as pb
from pbx_signaling.calls.signals import Authenticated, Found, Refused, ServiceFailed
from pbx_signaling.directory.directory import Standing
from pbx_signaling.directory.informed import Result, Topic
from support.eventually import eventually
from support.informed_signaling import SOURCE, InformedSignaling, informed_signaling
from support.redis_server import RedisServer, redis_server
from support.registrar_process import DOMAIN, Caller, RegistrarProcess, caller, registrar_pair, registrar_process

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("registrar")]
Pair = tuple[InformedSignaling, InformedSignaling]


@pytest.fixture(scope="module")
def replicas(redis: RedisServer) -> Iterator[tuple[RegistrarProcess, RegistrarProcess]]:
    """Two registrars that share Redis and the database."""
    with registrar_pair(redis) as pair:
        yield pair


@pytest.fixture
async def instances(replicas: tuple[RegistrarProcess, RegistrarProcess]) -> AsyncIterator[Pair]:
    """Two instances, each at a registrar of its own."""
    async with informed_signaling(replicas[0], "s1") as one, informed_signaling(replicas[1], "s2") as other:
        await eventually(lambda: one.directory.is_up and other.directory.is_up, what="both follow")
        yield one, other


@pytest.fixture
async def admin(replicas: tuple[RegistrarProcess, RegistrarProcess]) -> AsyncIterator[Caller]:
    async with caller(replicas[0]) as made:
        yield made


async def known(instance: InformedSignaling, *users: str) -> None:
    """Lets an instance follow users."""
    for user in users:
        await instance.find(user)
        await eventually(lambda user=user: instance.is_certain(user), what=f"{instance.name} sure of {user}")


async def targets(instance: InformedSignaling, user: str) -> list[str]:
    """Where an instance finds the phones of a user."""
    found = await instance.find(user)
    assert isinstance(found, Found)
    return [target.uri for target in found.targets]


async def comes_true(probe: Callable[[], Awaitable[bool]], what: str) -> float:
    """Seconds until a condition holds."""
    begun = time.monotonic()
    while not await probe():
        assert time.monotonic() - begun < 60, what
        await asyncio.sleep(0.005)
    return time.monotonic() - begun


async def test_a_miss_is_asked_once_and_followed_from_then_on(instances: Pair, admin: Caller) -> None:
    one, _ = instances
    await admin.put("3001")
    await admin.register("3001")
    assert await one.lets_in("3001")
    assert one.count(Topic.CALLER, Result.MISS) == 1
    await eventually(lambda: one.is_certain("3001"), what="followed")
    requests = one.registrar.client._next_id
    assert await one.lets_in("3001")
    assert await targets(one, "3001")
    assert one.registrar.client._next_id == requests, "no question went to the registrar"
    assert one.count(Topic.CALLER, Result.HIT) == one.count(Topic.TARGETS, Result.HIT) == 1


async def test_a_changed_password_counts_everywhere(instances: Pair, admin: Caller) -> None:
    await admin.put("3002", "old password")
    for instance in instances:
        await known(instance, "3002")
        assert await instance.lets_in("3002", "old password")
    await admin.put("3002", "new password")

    async def is_out() -> bool:
        return not any([await instance.lets_in("3002", "old password") for instance in instances])

    taken = await comes_true(is_out, "the old password is good still")
    print(f"a changed password counts everywhere after {taken * 1000:.0f} ms")
    for instance in instances:
        hits = instance.count(Topic.CALLER, Result.HIT)
        assert await instance.lets_in("3002", "new password")
        assert instance.count(Topic.CALLER, Result.HIT) == hits + 1


async def test_the_new_password_is_never_refused_whatever_a_directory_has(instances: Pair, admin: Caller) -> None:
    await admin.put("3003", "old password")
    for instance in instances:
        await known(instance, "3003")
    await admin.put("3003", "new password")
    for instance in instances:
        assert await instance.lets_in("3003", "new password")


async def test_bindings_made_and_removed_count_everywhere(instances: Pair, admin: Caller) -> None:
    one, other = instances
    await admin.put("3004")
    for instance in instances:
        await known(instance, "3004")
        assert await instance.hosts("3004") == []
    assert (await one.register("3004")).status == 200
    assert await one.hosts("3004") == [SOURCE], "at once where it registered"

    async def is_reached() -> bool:
        return await other.hosts("3004") == [SOURCE]

    await comes_true(is_reached, "reached by the other instance")
    await admin.ask(unregister=pb.UnregisterRequest(aor=f"3004@{DOMAIN}"))

    async def is_gone() -> bool:
        return not any([await instance.hosts("3004") for instance in instances])

    taken = await comes_true(is_gone, "removed everywhere")
    print(f"a removed binding counts everywhere after {taken * 1000:.0f} ms")
    assert other.count(Topic.TARGETS, Result.MISS) == 1


async def test_a_deleted_account_and_a_new_one_count_everywhere(instances: Pair, admin: Caller) -> None:
    for instance in instances:
        await known(instance, "3005")
        assert await instance.find("3005") == Found(False, [])
    await admin.put("3005")

    async def is_in() -> bool:
        return all([(await instance.find("3005")) == Found(True, []) for instance in instances])

    await comes_true(is_in, "created everywhere")
    await admin.accounts.DeleteAccount(pb.DeleteAccountRequest(user="3005"))

    async def is_out() -> bool:
        return all([(await instance.find("3005")) == Found(False, []) for instance in instances])

    await comes_true(is_out, "deleted everywhere")
    assert not await instances[1].lets_in("3005")


async def test_a_binding_runs_out_without_a_word(instances: Pair, admin: Caller) -> None:
    one, _ = instances
    await admin.put("3006")
    assert (await one.register("3006", expires_s=3_600)).status == 200
    await known(one, "3006")
    look = one.look("3006")
    assert look.user is not None
    (binding,) = look.user.bindings
    assert look.user.bindings_at(binding.expires_at_ms) == []


async def test_the_directory_says_what_the_registrar_says(instances: Pair, admin: Caller) -> None:
    one, other = instances
    await admin.put("3040")
    flow = pb.Flow(
        transport=pb.TRANSPORT_TCP, host=SOURCE, port=4711, instance_id="s9", connection_id=7, listener="tcp4"
    )
    contact = pb.Contact(
        uri="sip:3040@192.0.2.9", expires_s=600, q_thousandths=300, sip_instance="urn:uuid:1", reg_id=1
    )
    await admin.register("3040", flow=flow, contacts=[contact], path=["<sip:192.0.2.1;lr>"])
    await admin.register("3040", call_id="another")
    await admin.register("3040", uri="tel:3040", call_id="a third")
    for instance in (one, other):
        await known(instance, "3040")
        hits = instance.count(Topic.TARGETS, Result.HIT)
        found = await instance.find("3040")
        assert instance.count(Topic.TARGETS, Result.HIT) == hits + 1
        assert isinstance(found, Found)
        assert len(found.targets) == 2
        assert found == await instance.asked("3040")


async def test_people_write_bob_for_bob(instances: Pair, admin: Caller) -> None:
    one, _ = instances
    await admin.put("bob")
    await admin.register("bob")
    await known(one, "bob", "Bob")
    hits = one.count(Topic.TARGETS, Result.HIT)
    assert await targets(one, "Bob")
    assert one.count(Topic.TARGETS, Result.HIT) == hits + 1


async def test_a_nonces_count_is_good_once_over_all_instances(instances: Pair, admin: Caller) -> None:
    one, other = instances
    await admin.put("3007")
    for instance in instances:
        await known(instance, "3007")
    nonce = one.nonce()
    first, second = (one.authorization("3007", nonce=nonce, nc=nc) for nc in (1, 2))
    stale = Refused(407, stale=True)
    assert isinstance(await one.authenticate("3007", authorization=first), Authenticated)
    assert await one.authenticate("3007", authorization=first) == stale
    assert await other.authenticate("3007", authorization=first) == stale
    assert isinstance(await other.authenticate("3007", authorization=second), Authenticated)
    assert await other.authenticate("3007", authorization=second) == stale
    assert other.count(Topic.CALLER, Result.HIT) == 3


async def test_what_was_used_by_a_killed_instance_is_used(
    replicas: tuple[RegistrarProcess, RegistrarProcess], instances: Pair, admin: Caller
) -> None:
    one, _ = instances
    await admin.put("3008")
    await known(one, "3008")
    used = one.authorization("3008")
    assert isinstance(await one.authenticate("3008", authorization=used), Authenticated)
    async with informed_signaling(replicas[0], "s1") as after:  # the same instance, started anew
        await eventually(lambda: after.directory.is_up, what="follows")
        assert await after.authenticate("3008", authorization=used) == Refused(407, stale=True)
        await known(after, "3008")
        assert await after.authenticate("3008", authorization=used) == Refused(407, stale=True)


async def test_wrong_passwords_are_counted_where_all_replicas_agree(instances: Pair, admin: Caller) -> None:
    await admin.put("3009")
    for instance in instances:
        await known(instance, "3009")
    answers = [await instances[number % 2].authenticate("3009", "wrong") for number in range(8)]
    assert all(isinstance(answer, Refused) and answer.status == 403 for answer in answers)
    assert any(isinstance(answer, Refused) and answer.retry_after_s for answer in answers)
    assert await instances[0].lets_in("3009"), "a right response is never refused for failures"


async def test_another_users_name_is_refused(instances: Pair, admin: Caller) -> None:
    one, _ = instances
    await admin.put("3010")
    await known(one, "3010")
    assert await one.authenticate("3010", claimed=f"1@{DOMAIN}") == Refused(403)


async def test_a_register_is_proved_in_memory_and_its_credentials_stay(
    replicas: tuple[RegistrarProcess, RegistrarProcess], instances: Pair, admin: Caller
) -> None:
    one, _ = instances
    await admin.put("3011")
    await known(one, "3011")
    judged = replicas[0].metrics().sum("pbx_registrar_authentications_total")
    used = one.authorization("3011", method="REGISTER")
    assert (await one.register("3011", authorization=used)).status == 200
    assert one.count(Topic.REGISTER, Result.HIT) == 1
    assert replicas[0].metrics().sum("pbx_registrar_authentications_total") == judged
    again = await one.register("3011", authorization=used)
    assert (again.status, again.stale) == (401, True)
    wrong = one.authorization("3011", "wrong", method="REGISTER")
    assert (await one.register("3011", authorization=wrong)).status == 403


async def test_users_of_a_killed_registrar_go_on_and_its_restart_leaves_nothing_stale(redis: RedisServer) -> None:
    with registrar_process(redis) as registrar:
        async with informed_signaling(registrar) as one:
            async with caller(registrar) as admin:
                await admin.put("3020")
                await admin.put("3021")
            assert (await one.register("3021")).status == 200
            await known(one, "3020", "3021")
            registrar.kill()
            await eventually(lambda: not one.directory.is_up, what="in doubt")
            assert one.look("3020").standing is Standing.DOUBTFUL
            for _ in range(3):
                assert await one.lets_in("3020")
                assert await one.hosts("3021") == [SOURCE]
            assert one.count(Topic.CALLER, Result.KEPT) == one.count(Topic.TARGETS, Result.KEPT) == 3
            assert isinstance(await one.authenticate("3020", "wrong"), ServiceFailed), "who is not known waits"
            assert isinstance(await one.authenticate("3029"), ServiceFailed)
            registrar.start()
            async with caller(registrar) as admin:
                await admin.put("3020", "changed")
                await eventually(lambda: one.is_certain("3020"), what="sure again")

                async def is_out() -> bool:
                    return not await one.lets_in("3020")

                await comes_true(is_out, "the password of before the restart is good still")
                assert await one.lets_in("3020", "changed")


async def test_a_registrar_that_hangs_is_found_out_and_costs_calls_little(redis: RedisServer) -> None:
    with registrar_process(redis) as registrar:
        async with informed_signaling(registrar) as one:
            async with caller(registrar) as admin:
                await admin.put("3022")
            await known(one, "3022")
            assert registrar.process is not None
            os.kill(registrar.process.pid, signal.SIGSTOP)
            try:
                assert await one.lets_in("3022")
                await eventually(lambda: not one.directory.is_up, what="in doubt")
                assert await one.lets_in("3022")
                assert one.count(Topic.CALLER, Result.KEPT) == 1
            finally:
                os.kill(registrar.process.pid, signal.SIGCONT)
            await eventually(lambda: one.is_certain("3022"), what="sure again")


async def test_while_redis_is_away_everything_is_in_doubt_and_told_anew_afterwards() -> None:
    with redis_server() as redis, registrar_process(redis) as registrar:
        async with informed_signaling(registrar) as one, caller(registrar) as admin:
            await admin.put("3023")
            await known(one, "3023")
            redis.kill()
            await eventually(lambda: one.look("3023").standing is Standing.DOUBTFUL, what="in doubt")
            redis.start()
            await eventually(lambda: one.is_certain("3023"), what="sure again")
            await admin.put("3023", "changed")

            async def is_out() -> bool:
                return not await one.lets_in("3023")

            await comes_true(is_out, "a change after Redis came back")
            metrics = registrar.metrics()
            assert metrics.sum("pbx_registrar_notices_standing") == 1
            assert metrics.sum("pbx_registrar_followers") == 1


async def test_more_users_than_the_directory_holds(
    replicas: tuple[RegistrarProcess, RegistrarProcess], admin: Caller
) -> None:
    async with informed_signaling(replicas[0], "s3", users=3) as one:
        await eventually(lambda: one.directory.is_up, what="follows")
        users = [str(3030 + number) for number in range(6)]
        for user in users:
            await admin.put(user)
            await known(one, user)
        assert one.directory.users == 3
        for user in users:
            assert await one.lets_in(user)
