"""The registrar and the relays as signaling sees them: the fakes that the product ships answer as the real ones do."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from pbx_signaling.calls.signals import Authenticated, Found, LookupFailed, MediaReady, MediaUnavailable, Refused
from pbx_signaling.clients.base import RegistrarClient, RelayClient
from pbx_signaling.clients.fake_registrar import FakeRegistrar
from pbx_signaling.clients.fake_relay import FakeRelay
from pbx_signaling.clients.registrar import GrpcRegistrar
from pbx_signaling.clients.relay import Relays
from pbx_signaling.media.stream import Direction, Media, StreamEndpoint
from pbx_signaling.users.attempt import Attempt
from pbx_signaling.users.questions import Register, Registered
from pbx_sip.address import Flow, HostPort, Transport, network_of
from pbx_sip.auth.digest import Challenge, respond
from pbx_sip.header.contact import RegisterContact
from support.eventually import eventually
from support.redis_server import RedisServer, redis_server
from support.registrar_process import DOMAIN, NONCES, RegistrarProcess, caller, registrar_process
from support.relay_process import RelayProcess, relay_process

PHONE = HostPort("192.0.2.4", 5060)
FLOW = Flow(Transport.UDP, PHONE, "udp4")
ANSWER_S = 10.0


@dataclass
class World:
    """A client, and how an account comes about behind it."""

    registrar: RegistrarClient
    put: Callable[[str, str], Awaitable[object]]


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture(scope="module")
def replica(request: pytest.FixtureRequest) -> Iterator[RegistrarProcess]:
    redis: RedisServer = request.getfixturevalue("redis")
    with registrar_process(redis) as process:
        yield process


@pytest.fixture(params=["fake", pytest.param("grpc", marks=pytest.mark.integration)])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    if request.param == "fake":
        fake = FakeRegistrar(DOMAIN)

        async def put(user: str, password: str) -> None:
            fake.passwords[user] = password

        yield World(fake, put)
        return
    process: RegistrarProcess = request.getfixturevalue("replica")
    states: list[bool] = []
    client = GrpcRegistrar(f"127.0.0.1:{process.grpc_port}", "s1", states.append)
    task = asyncio.ensure_future(client.client.run())
    await eventually(lambda: client.client.is_up)
    async with caller(process) as admin:
        yield World(client, admin.put)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await client.close()


async def answer_of(ask: Callable[[Callable[[Any], None]], None]) -> Any:
    """What a client answers."""
    answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    ask(answered.set_result)
    return await asyncio.wait_for(answered, ANSWER_S)


def authorization(user: str, password: str, method: str) -> str:
    challenge = Challenge(DOMAIN, NONCES.mint(time.time(), PHONE.host), "SHA-256")
    cnonce = os.urandom(4).hex()
    return str(respond(challenge, user, password, method, f"sip:{DOMAIN}", cnonce=cnonce, nc=1))


def attempt(user: str, password: str, claimed: str = "") -> Attempt:
    return Attempt(
        *("01CALL", "1008", f"1008@{DOMAIN}", claimed or f"{user}@{DOMAIN}", ""),
        authorization(user, password, "INVITE"),
        *(f"sip:1008@{DOMAIN}", 69, PHONE),
        nonce_source=network_of(PHONE.host),
    )


def register(user: str, cseq: int, *contacts: RegisterContact, password: str = "secret") -> Register:
    return Register(
        aor=f"{user}@{DOMAIN}",
        contacts=list(contacts),
        remove_all=False,
        call_id=f"{user}-registers",
        cseq=cseq,
        flow=FLOW,
        path=[],
        user_agent="Phone/1.0",
        authorization=authorization(user, password, "REGISTER"),
        body=b"",
        nonce_source=network_of(PHONE.host),
    )


async def test_credentials_prove_their_user_and_nobody_else(world: World) -> None:
    await world.put("1004", "secret")
    proved = await answer_of(lambda to: world.registrar.authenticate(attempt("1004", "secret"), "INVITE", to))
    assert isinstance(proved, Authenticated)
    assert proved.user == "1004"
    for wrong in (attempt("1004", "guessed"), attempt("9999", "secret"), attempt("1004", "secret", f"1008@{DOMAIN}")):
        refused = await answer_of(lambda to, wrong=wrong: world.registrar.authenticate(wrong, "INVITE", to))
        assert isinstance(refused, Refused), refused
        assert refused.status == 403


async def test_a_look_up_tells_who_is_known_and_where(world: World) -> None:
    await world.put("1010", "secret")
    nobody = await answer_of(lambda to: world.registrar.find(f"7777@{DOMAIN}", to))
    assert isinstance(nobody, Found)
    assert (nobody.known, list(nobody.targets)) == (False, [])
    unregistered = await answer_of(lambda to: world.registrar.find(f"1010@{DOMAIN}", to))
    assert (unregistered.known, list(unregistered.targets)) == (True, [])
    contact = RegisterContact.parse("<sip:1010@192.0.2.4:5060>;expires=300")
    made = await answer_of(lambda to: world.registrar.register(register("1010", 1, contact), to))
    assert isinstance(made, Registered)
    assert (made.status, [binding.uri for binding in made.bindings]) == (200, ["sip:1010@192.0.2.4:5060"])
    found = await answer_of(lambda to: world.registrar.find(f"1010@{DOMAIN}", to))
    (target,) = found.targets
    assert (target.uri, target.aor, target.host, target.port) == (contact.uri, f"1010@{DOMAIN}", PHONE.host, PHONE.port)
    assert (target.listener, target.instance, target.connection) == ("udp4", "s1", 0)
    gone = RegisterContact.parse("<sip:1010@192.0.2.4:5060>;expires=0")
    removed = await answer_of(lambda to: world.registrar.register(register("1010", 2, gone), to))
    assert (removed.status, list(removed.bindings)) == (200, [])
    assert list((await answer_of(lambda to: world.registrar.find(f"1010@{DOMAIN}", to))).targets) == []


async def test_a_register_with_a_wrong_password_changes_nothing(world: World) -> None:
    await world.put("1011", "secret")
    contact = RegisterContact.parse("<sip:1011@192.0.2.4:5060>")
    refused = await answer_of(lambda to: world.registrar.register(register("1011", 1, contact, password="guessed"), to))
    assert (refused.status, list(refused.bindings)) == (403, [])
    found = await answer_of(lambda to: world.registrar.find(f"1011@{DOMAIN}", to))
    assert not isinstance(found, LookupFailed)
    assert list(found.targets) == []


# --- relays


def endpoint(side: int, port: int) -> StreamEndpoint:
    return StreamEndpoint(side, Media.AUDIO, "127.0.0.1", port, "127.0.0.1", port + 1, Direction.SENDRECV, False, ())


@pytest.fixture(scope="module")
def relay_server(request: pytest.FixtureRequest) -> Iterator[RelayProcess]:
    redis: RedisServer = request.getfixturevalue("redis")
    with relay_process(redis) as process:
        yield process


@pytest.fixture(params=["fake", pytest.param("grpc", marks=pytest.mark.integration)])
async def relays(request: pytest.FixtureRequest) -> AsyncIterator[RelayClient]:
    if request.param == "fake":
        yield FakeRelay("192.0.2.2")
        return
    lease = request.getfixturevalue("relay_server").lease()
    assert lease is not None
    client = Relays("s1", lambda call_id, signal: None, lambda ready: None)
    link = client.add(lease.grpc_address)
    task = asyncio.ensure_future(link.client.run())
    await eventually(lambda: link.takes_calls)
    yield client
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await link.close()


async def test_a_slot_is_eight_ports_of_a_call_and_given_back(relays: RelayClient) -> None:
    slots = []
    for call_id in ("01RELAYA", "01RELAYB"):
        ready = await answer_of(lambda to, call_id=call_id: relays.reserve(call_id, [endpoint(1, 4000)], to))
        assert isinstance(ready, MediaReady), ready
        slots.append(ready.slot)
    for slot in slots:
        ports = {port for pair in slot.ports.values() for port in pair}
        assert len(ports) == 8
        assert slot.first_port == min(ports)
        assert slot.first_port % 8 == 0
    assert {p for pair in slots[0].ports.values() for p in pair}.isdisjoint(
        p for pair in slots[1].ports.values() for p in pair
    )
    for call_id, slot in zip(("01RELAYA", "01RELAYB"), slots, strict=True):
        relays.update(call_id, slot, [endpoint(1, 4000), endpoint(2, 5000)])
        relays.release(call_id, slot)


async def test_without_a_relay_that_takes_calls_there_is_no_slot() -> None:
    fake = FakeRelay("192.0.2.2", is_full=True)
    none = Relays("s1", lambda call_id, signal: None, lambda ready: None)
    for client in (fake, none):
        answer = await answer_of(lambda to, client=client: client.reserve("01NONE", [], to))
        assert isinstance(answer, MediaUnavailable)
