"""The registrar process as signaling and the command line see it: real gRPC, Redis and SQLite."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import grpc.aio
import pytest

from pbx.registrar.v1 import registrar_pb2 as pb
from support.redis_server import RedisServer
from support.registrar_process import (
    DOMAIN,
    KEY,
    NONCES,
    Caller,
    RegistrarProcess,
    caller,
    credentials,
    outbox,
    register_request,
    registrar_process,
    told,
)
from support.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("registrar")]


@pytest.fixture(scope="module")
def replica(redis: RedisServer) -> Iterator[RegistrarProcess]:
    with registrar_process(redis, PBX_MIN_EXPIRES_S="1") as process:
        yield process


@pytest.fixture
async def signaling(replica: RegistrarProcess) -> AsyncIterator[Caller]:
    async with caller(replica) as made:
        yield made


async def test_register_look_up_and_remove_over_the_stream(signaling: Caller, redis: RedisServer) -> None:
    created = await signaling.put("1004")
    assert (created.created, created.account.user, created.account.domain) == (True, "1004", DOMAIN)
    flow = pb.Flow(
        transport=pb.TRANSPORT_TCP, host="2001:db8::4", port=40000, instance_id="s1", connection_id=9, listener="tcp6"
    )
    answer = await signaling.register("1004", flow=flow, path=["<sip:edge;lr>"])
    assert (answer.status, len(answer.bindings)) == (200, 1)
    found = await signaling.lookup("1004")
    assert found.known
    assert list(found.bindings) == list(answer.bindings)
    (binding,) = found.bindings
    assert (binding.flow, list(binding.path), binding.user_agent) == (flow, ["<sip:edge;lr>"], "Phone/1.0")
    (event,) = [e for e in outbox(redis) if e.registration_added.aor == f"1004@{DOMAIN}"]
    assert event.registration_added.source == "tcp:[2001:db8::4]:40000"
    assert event.source.startswith("registrar/")
    assert len(event.id) == 26
    other = pb.UnregisterRequest(aor=f"1004@{DOMAIN}", flow=pb.Flow(instance_id="s1", connection_id=8))
    assert (await signaling.ask(unregister=other)).unregister.removed == 0
    broken = pb.UnregisterRequest(aor=f"1004@{DOMAIN}", flow=flow)
    assert (await signaling.ask(unregister=broken)).unregister.removed == 1
    gone = await signaling.lookup("1004")
    assert (gone.known, list(gone.bindings)) == (True, [])
    assert told(redis, "registration_removed", f"1004@{DOMAIN}") == 1


async def test_the_rules_hold_over_the_wire(signaling: Caller) -> None:
    await signaling.put("2001")
    assert (await signaling.register("2001", cseq=5)).status == 200
    assert (await signaling.register("2001", cseq=4)).status == 500
    two = await signaling.register("2001", uri="sip:2001@192.0.2.5", cseq=6)
    assert len(two.bindings) == 2
    query = await signaling.register("2001", contacts=[], cseq=7)
    assert (query.status, len(query.bindings)) == (200, 2)
    everything = await signaling.register("2001", contacts=[], remove_all=True, cseq=8)
    assert (everything.status, list(everything.bindings)) == (200, [])


async def test_unary_twins_answer_the_same(signaling: Caller) -> None:
    await signaling.put("2002")
    stub = signaling.registrar
    assert (await stub.Register(register_request("2002"))).status == 200
    assert (await stub.Lookup(pb.LookupRequest(aor=f"2002@{DOMAIN.upper()}"))).bindings[0].aor == f"2002@{DOMAIN}"
    verdict = await stub.Authenticate(credentials("2002", method="INVITE"))
    assert (verdict.verdict, verdict.user) == (pb.VERDICT_ACCEPTED, "2002")
    assert (await stub.Unregister(pb.UnregisterRequest(aor=f"2002@{DOMAIN}"))).removed == 1


async def test_credentials_are_judged(signaling: Caller, redis: RedisServer) -> None:
    await signaling.put("2003")
    nonce = NONCES.mint(time.time(), "192.0.2.33")
    first = credentials("2003", nonce=nonce, host="192.0.2.33")
    assert (await signaling.register("2003", proof=first)).status == 200
    replayed = await signaling.register("2003", proof=first)
    assert (replayed.status, replayed.stale) == (401, True)
    wrong = credentials("2003", "guess", host="192.0.2.33")
    assert (await signaling.register("2003", proof=wrong)).status == 403
    assert (await signaling.register("2004", proof=credentials("2003", host="192.0.2.33"))).status in (200, 403)
    garbage = pb.AuthenticateRequest(method="REGISTER", authorization="Digest garbage")
    assert (await signaling.register("2003", proof=garbage)).status == 400

    def reported() -> bool:
        return any(e.security_auth_failed.source_host == "192.0.2.33" for e in outbox(redis))

    until(reported, timeout_s=15, what="security.auth_failed")


async def test_an_unknown_user_is_neither_known_nor_registered(signaling: Caller) -> None:
    for nobody in ("9999", "", "\x00", "9" * 400):
        assert not (await signaling.lookup(nobody)).known
    assert (await signaling.register("9999")).status == 403
    unauthenticated = register_request("9999")
    unauthenticated.ClearField("credentials")
    assert (await signaling.ask(register=unauthenticated)).register.status == 404


@pytest.mark.parametrize(
    "command",
    [{"register": pb.RegisterRequest(aor="")}, {}],
)
async def test_commands_that_make_no_sense_are_errors(signaling: Caller, command: dict[str, object]) -> None:
    assert (await signaling.ask(**command)).HasField("error")


async def test_a_binding_runs_out_and_is_told_once(signaling: Caller, redis: RedisServer) -> None:
    await signaling.put("2005")
    assert (await signaling.register("2005", expires_s=1)).status == 200
    until(lambda: told(redis, "registration_expired", f"2005@{DOMAIN}"), timeout_s=10, what="registration.expired")
    assert not (await signaling.lookup("2005")).bindings
    await asyncio.sleep(1.2)  # two more turns of the loop
    assert told(redis, "registration_expired", f"2005@{DOMAIN}") == 1


async def test_a_changed_password_counts_at_once(signaling: Caller) -> None:
    await signaling.put("2006", "old")
    assert (await signaling.register("2006", proof=credentials("2006", "old"))).status == 200
    assert not (await signaling.put("2006", "new")).created
    assert (await signaling.register("2006", proof=credentials("2006", "old", host="192.0.2.66"))).status == 403
    assert (await signaling.register("2006", proof=credentials("2006", "new"))).status == 200


async def test_a_deleted_account_loses_its_bindings(signaling: Caller) -> None:
    await signaling.put("2007")
    await signaling.register("2007")
    request = pb.DeleteAccountRequest(user="2007")
    assert (await signaling.accounts.DeleteAccount(request)).deleted
    found = await signaling.lookup("2007")
    assert (found.known, list(found.bindings)) == (False, [])
    assert not (await signaling.accounts.DeleteAccount(request)).deleted


@pytest.mark.parametrize(
    "request_",
    [
        pb.PutAccountRequest(user="", password="x"),
        pb.PutAccountRequest(user="a@b", password="x"),
        pb.PutAccountRequest(user="a:b", password="x"),
        pb.PutAccountRequest(user="1004", password=""),
        pb.PutAccountRequest(user="1004", domain="a b", password="x"),
        pb.PutAccountRequest(user="1004", display_name="\n", password="x"),
    ],
)
async def test_accounts_that_make_no_sense_are_refused(signaling: Caller, request_: pb.PutAccountRequest) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await signaling.accounts.PutAccount(request_)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_lists_come_in_pages(signaling: Caller) -> None:
    users = [f"30{n:02}" for n in range(7)]
    for user in users:
        await signaling.put(user)
        await signaling.register(user)
    accounts, token = [], ""
    while True:
        page = await signaling.accounts.ListAccounts(pb.ListAccountsRequest(page_size=3, page_token=token))
        accounts += [account.user for account in page.accounts]
        token = page.next_page_token
        if not token:
            break
    assert accounts == sorted(accounts)
    assert set(users) <= set(accounts)
    bindings, token = [], ""
    while True:
        listed = await signaling.registrar.ListBindings(pb.ListBindingsRequest(page_size=3, page_token=token))
        bindings += [binding.aor for binding in listed.bindings]
        token = listed.next_page_token
        if not token:
            break
    assert bindings == sorted(bindings)
    assert {f"{user}@{DOMAIN}" for user in users} <= set(bindings)
    one = await signaling.registrar.ListBindings(pb.ListBindingsRequest(aor=f"3003@{DOMAIN}"))
    assert [binding.aor for binding in one.bindings] == [f"3003@{DOMAIN}"]


async def test_a_watcher_sees_changes_as_they_happen(signaling: Caller) -> None:
    await signaling.put("2008")
    stream = signaling.registrar.Watch(pb.WatchRequest(aor=f"2008@{DOMAIN}"))
    await stream.initial_metadata()
    await signaling.register("2008")
    await signaling.register("2008")
    await signaling.register("2008", expires_s=0)
    changes = [(await asyncio.wait_for(stream.read(), 5)).change for _ in range(3)]
    assert changes == [pb.CHANGE_ADDED, pb.CHANGE_REFRESHED, pb.CHANGE_REMOVED]
    stream.cancel()


async def test_metrics_tell_what_happened(signaling: Caller, replica: RegistrarProcess) -> None:
    await signaling.put("2009")
    await signaling.register("2009")
    metrics = replica.metrics()
    assert metrics.sum("pbx_registrar_registers_total", status="200") >= 1
    assert metrics.sum("pbx_registrar_authentications_total", verdict="accepted") >= 1
    until(lambda: replica.metrics().sum("pbx_registrar_registrations") >= 1, timeout_s=5, what="registrations")


async def test_no_secret_is_written(signaling: Caller, replica: RegistrarProcess) -> None:
    password = "the-one-password-of-this-test"
    await signaling.put("2010", password)
    await signaling.register("2010", proof=credentials("2010", password))
    await signaling.register("2010", proof=credentials("2010", "wrong-" + password, host="192.0.2.77"))
    written = replica.log.encode() + b"".join(path.read_bytes() for path in replica.data.glob("*.sqlite*"))
    assert password.encode() not in written
    assert KEY.hex() not in replica.log


async def test_sigterm_ends_it_cleanly_with_open_streams(redis: RedisServer) -> None:
    with registrar_process(redis) as replica:
        async with caller(replica) as signaling:
            await signaling.put("1004")
            await signaling.register("1004")
            watching = signaling.registrar.Watch(pb.WatchRequest())
            await watching.initial_metadata()
            assert await asyncio.to_thread(replica.stop) == 0
            with contextlib.suppress(grpc.aio.AioRpcError):
                await watching.read()
        assert "Traceback" not in replica.log


def test_bad_settings_are_named_and_nothing_starts(redis: RedisServer, tmp_path: Path) -> None:
    replica = RegistrarProcess(redis, tmp_path, {"PBX_NONCE_KEY": "short"})
    with pytest.raises(AssertionError):
        replica.start()
    assert replica.process is not None
    assert replica.process.wait(10) == 2
    assert "PBX_NONCE_KEY" in replica.log
