"""Any bytes on any port, and dependencies that die: errors in SIP's terms, no crash, recovery."""

from __future__ import annotations

import os
import random
import signal
import socket
import time
from collections.abc import Iterator

import pytest

from support import procfs
from support.call import establish
from support.phone import EXPECT_S, Phone
from support.ports import free_port
from support.product import Product, Settings, accounts
from support.waiting import until
from support.wire import Message

pytestmark = [pytest.mark.integration, pytest.mark.interop, pytest.mark.xdist_group("bad-input")]

SEED = 20_240_611
DATAGRAMS = 2000
RECOVERY_S = 30
RETRY_S = 0.3
GIVE_UP_S = 0.5
"""How long a phone waits to be rung in one of several tries (`SLOWER` times): it hears of no refusal of the call, and
one lost try must not take all of `RECOVERY_S`."""
CALLEE_PORT = free_port()
"""Always the same: an account may have so many contacts and no more."""


@pytest.fixture(scope="module")
def product() -> Iterator[Product]:
    """A product of its own: others are not to suffer from what is done to it."""
    with Product(Settings(accounts(10))) as running:
        yield running


def called(product: Product) -> Phone:
    return product.phone("1008", CALLEE_PORT)


def a_call_works(product: Product, *, ring_s: float = EXPECT_S) -> None:
    with product.phone("1004") as caller, called(product) as callee:
        assert callee.register().status == 200
        establish(caller, callee, ring_s=ring_s).hang_up()
    product.assert_all_released()


def works_again(product: Product) -> None:
    """Soon after: a phone tries again, as phones do."""
    deadline = time.monotonic() + RECOVERY_S
    while True:
        try:
            a_call_works(product, ring_s=GIVE_UP_S)
        except (AssertionError, OSError, KeyError) as error:
            if time.monotonic() > deadline:
                raise AssertionError(f"calls do not work again: {error}\n{product.log()}") from error
            time.sleep(RETRY_S)
        else:
            return


def same_processes(product: Product) -> bool:
    return all(procfs.is_alive(process.pid) for process in product.processes)


def noise(chance: random.Random) -> bytes:
    """Random bytes, or a request with some of its bytes changed."""
    if chance.random() < 0.5:
        return chance.randbytes(chance.choice((0, 1, 3, 20, 200, 1400, 9000)))
    message = bytearray(
        b"INVITE sip:1008@pbx.local SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bK1;rport\r\n"
        b"Max-Forwards: 70\r\n"
        b"From: <sip:1004@pbx.local>;tag=1\r\nTo: <sip:1008@pbx.local>\r\nCall-ID: 1@x\r\nCSeq: 1 INVITE\r\n"
        b"Contact: <sip:1004@127.0.0.1:9>\r\nContent-Length: 0\r\n\r\n"
    )
    for _ in range(chance.randrange(1, 12)):
        place = chance.randrange(len(message))
        match chance.randrange(3):
            case 0:
                message[place] = chance.randrange(256)
            case 1:
                del message[place : place + chance.randrange(1, 30)]
            case _:
                message[place:place] = chance.randbytes(chance.randrange(1, 30))
        message = message or bytearray(b"x")
    return bytes(message)


def test_any_bytes_on_the_sip_port(product: Product) -> None:
    chance = random.Random(SEED)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        for _ in range(DATAGRAMS):
            udp.sendto(noise(chance), product.sip)
    a_call_works(product)
    assert same_processes(product)


def test_any_bytes_on_the_relay_ports(product: Product) -> None:
    chance = random.Random(SEED)
    with product.phone("1004") as caller, called(product) as callee:
        assert callee.register().status == 200
        call = establish(caller, callee)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            for number in range(DATAGRAMS):
                port = call.relay_port() if number % 2 else chance.randrange(*product.relay_ports)
                udp.sendto(noise(chance)[:1400], (product.sip[0], port))
        call.hang_up()
    product.assert_all_released()
    a_call_works(product)
    assert same_processes(product)


def refusal(phone: Phone, user: str) -> tuple[int, str]:
    """Status and Retry-After of a call that is not expected to go through."""
    dialog = phone.dial_unchallenged(user)
    response = _not_trying(phone)
    if response.status == 407:
        phone.answer_challenge(dialog, response)
        response = _not_trying(phone)
    phone.ack(dialog, response)
    return response.status, response.get("retry-after")


def _not_trying(phone: Phone) -> Message:
    while (response := phone.receive(10)).status == 100:
        pass
    return response


def refused_with_503(phone: Phone, user: str) -> bool:
    status, retry_after = refusal(phone, user)
    return status == 503 and retry_after.isdigit()


def test_a_frozen_redis(product: Product) -> None:
    with product.phone("1004") as caller, called(product) as callee:
        assert callee.register().status == 200
        up = establish(caller, callee)
        redis = product.pid_of("redis")
        os.kill(redis, signal.SIGSTOP)
        try:
            up.hang_up()  # a call that is up can always be ended; its end cannot be written: the stall is found
            until(lambda: gauge(product, "journal_backlog"), timeout_s=10, what="its events wait")
            until(lambda: refused_with_503(caller, "1008"), timeout_s=15, what="503 with Retry-After")
        finally:
            os.kill(redis, signal.SIGCONT)
    works_again(product)


def gauge(product: Product, name: str) -> float:
    return product.metrics("signaling").sum(f"pbx_signaling_{name}")


def test_who_calls_while_redis_stalls_for_a_moment_gets_through(product: Product) -> None:
    with product.phone("1004") as caller, product.phone("2000") as other, called(product) as callee:
        assert callee.register().status == 200
        up = establish(other, callee)
        redis = product.pid_of("redis")
        os.kill(redis, signal.SIGSTOP)
        try:
            up.hang_up()  # its end cannot be written: the stall is found
            until(lambda: gauge(product, "journal_backlog"), timeout_s=2, what="its events wait")
            dialog = caller.dial("1008")
            until(lambda: gauge(product, "calls_waiting"), timeout_s=2, what="the caller waits")
        finally:
            os.kill(redis, signal.SIGCONT)
        invite = callee.expect("INVITE")
        callee.reply(invite, 486, "Busy Here", dialog=callee.answer(invite))
        caller.ack(dialog, caller.expect(486))
    product.assert_all_released()


def test_a_killed_redis(product: Product) -> None:
    os.kill(product.pid_of("redis"), signal.SIGKILL)
    works_again(product)


def test_a_killed_relay(product: Product) -> None:
    os.kill(product.pid_of("media-relay"), signal.SIGKILL)
    works_again(product)


def test_a_killed_registrar(product: Product) -> None:
    os.kill(product.pid_of("registrar"), signal.SIGKILL)
    works_again(product)


def test_killed_events_lose_no_cdr(product: Product) -> None:
    before = len(product.cdrs(caller="1008", limit=1000))
    os.kill(product.pid_of("events"), signal.SIGKILL)
    # Nobody reads the outbox now; calls go on all the same.
    with product.phone("1008") as caller, product.phone("2000") as callee:
        assert callee.register().status == 200
        for _ in range(5):
            establish(caller, callee).hang_up()
    works_again(product)
    product.cdrs_of(before + 5, caller="1008")
