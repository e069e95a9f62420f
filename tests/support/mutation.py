"""Mutated SIP messages against the running product, and what must hold afterwards. Knows SIP's text, nothing else.

`attack` sends for some seconds from several addresses, over UDP and TCP; between rounds and in the end the processes
must be the same, a call must work, memory must stay within bounds and nothing may be left of a call or a transaction.
"""

from __future__ import annotations

import contextlib
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from support import procfs
from support.call import establish
from support.product import Product
from support.waiting import until

DATA: Final = Path(__file__).resolve().parent.parent / "data"
ROUND_S: Final = 20.0
MEMORY_GROWS_MAX: Final = 96 << 20
"""Bytes above the size after the first round: lingering transactions of 32 s at this rate are some 40 MiB."""
LINGER_S: Final = 60.0
"""Transactions of requests that nobody acknowledges run out after 32 s; then the gauge must be 0."""
SOURCES: Final = tuple(f"127.0.0.{number}" for number in range(70, 78))
_TOKENS: Final = (
    b"\r\n",
    b"\r\n\r\n",
    b";",
    b"=",
    b"\x00",
    b'"',
    b"<",
    b">",
    b"@",
    b"%00",
    b"\xff\xfe",
    b",",
    b"SIP/2.0 ",
)
_METHODS: Final = ("INVITE", "REGISTER", "OPTIONS", "ACK", "BYE", "CANCEL", "PRACK", "UPDATE", "MESSAGE", "SUBSCRIBE")


_REQUEST: Final = (
    "{method} sip:1008@pbx.local SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bKseed;rport\r\n"
    "Max-Forwards: 70\r\nFrom: <sip:1004@pbx.local>;tag=1\r\nTo: <sip:1008@pbx.local>\r\nCall-ID: seed@x\r\n"
    "CSeq: 1 {method}\r\nContact: <sip:1004@127.0.0.1:9>\r\nSupported: 100rel, timer\r\n"
    'Proxy-Authorization: Digest username="1004", realm="pbx.local", nonce="0", uri="sip:x", response="0"\r\n'
    "Session-Expires: 90;refresher=uac\r\nContent-Type: application/sdp\r\nContent-Length: 0\r\n\r\n"
)


def seeds() -> list[bytes]:
    """The torture messages, and a plain request of each method."""
    found = [path.read_bytes() for path in sorted(DATA.glob("rfc*/*.dat"))]
    found += [_REQUEST.replace("{method}", method).encode() for method in _METHODS]
    return found


def mutated(chance: random.Random, corpus: list[bytes]) -> bytes:
    """A seed with some bytes changed, cut, doubled, or joined with another; its branch mostly new."""
    message = bytearray(chance.choice(corpus))
    for _ in range(chance.randrange(1, 9)):
        place = chance.randrange(len(message) + 1)
        match chance.randrange(6):
            case 0 if message:
                message[place % len(message)] = chance.randrange(256)
            case 1:
                del message[place : place + chance.randrange(1, 40)]
            case 2:
                message[place:place] = chance.choice(_TOKENS)
            case 3:
                message[place:place] = message[place : place + chance.randrange(1, 200)]
            case 4:
                message[place:] = chance.choice(corpus)[place:]
            case _:
                message[place:place] = str(chance.choice((0, -1, 2**31, 2**32, 2**64, 10**30))).encode()
    if chance.random() < 0.7:
        message = bytearray(bytes(message).replace(b"z9hG4bK", b"z9hG4bK%x" % chance.getrandbits(48), 1))
    return bytes(message[:9000])


def attack(product: Product, seconds: float, seed: int, rate_per_s: float = 1500.0) -> int:
    """Sends for so long; raises AssertionError at a finding, with the seed. Returns how many messages were sent."""
    chance, corpus, sent = random.Random(seed), seeds(), 0
    signaling = product.pid_of("signaling")
    began, limit = time.monotonic(), 0
    while (left := seconds - (time.monotonic() - began)) > 0:
        sent += _round(product, min(ROUND_S, left), chance, corpus, rate_per_s)
        _still_well(product, seed)
        size = procfs.memory([signaling]).rss
        limit = limit or size + MEMORY_GROWS_MAX
        assert size <= limit, f"seed {seed}: {size >> 20} MiB, allowed {limit >> 20}"
    until(lambda: _transactions(product) == 0, timeout_s=LINGER_S, what=f"no transaction left (seed {seed})")
    product.assert_all_released(LINGER_S)
    assert "Traceback" not in product.log(), f"seed {seed}: {product.log()}"
    return sent


def _transactions(product: Product) -> float:
    return product.metrics("signaling").sum("pbx_signaling_transactions")


def _round(product: Product, seconds: float, chance: random.Random, corpus: list[bytes], rate_per_s: float) -> int:
    began, sent = time.monotonic(), 0
    with _sockets() as sockets:
        while (past := time.monotonic() - began) < seconds:
            while sent < past * rate_per_s:
                data = mutated(chance, corpus)
                with contextlib.suppress(OSError):
                    chance.choice(sockets).sendto(data, product.sip)
                if chance.random() < 0.01:
                    _by_tcp(product, data + mutated(chance, corpus), chance.choice(SOURCES))
                sent += 1
            time.sleep(0.005)  # the pace of the attack is real time
    return sent


@contextlib.contextmanager
def _sockets() -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        sockets = []
        for host in SOURCES:
            one = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            one.bind((host, 0))
            sockets.append(one)
        yield sockets


def _by_tcp(product: Product, data: bytes, host: str) -> None:
    # Never from the address of the honest phones: wrong credentials of theirs from there would shut them out, rightly.
    to = product.sip
    with contextlib.suppress(OSError), socket.create_connection(to, timeout=1, source_address=(host, 0)) as one:
        one.sendall(data)


def _still_well(product: Product, seed: int) -> None:
    gone = [process.name for process in product.processes if not procfs.is_alive(process.pid)]
    assert not gone, f"seed {seed}: {gone} died\n{product.log()}"
    with product.phone("1004") as caller, product.phone("1008") as callee:
        assert callee.register().status == 200
        establish(caller, callee).hang_up()
        assert callee.register(contacts=("*",), expires_s=0).status == 200
