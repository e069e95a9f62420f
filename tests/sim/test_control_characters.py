"""Whatever a phone writes into its headers, no octet that a terminal obeys reaches the other leg."""

from __future__ import annotations

import re

import pytest

from pbx_sip.message.message import Response
from support.bench_core import ALICE, BOB, Bench, sdp
from support.ladder import INVITE, answer, invite, reply, within

HOSTILE = [
    "\x1b]0;mine\x07",
    "\x00",
    "\x7f",
    "\x08\x08\x08",
    "\x0b\x0c",
    "\x9b31m",
    "\x85",
    "\u2028",
    "\u202eevil",
    "\U000e0041",
]
RULES = ("*=pass",)
UNSAFE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\U000e0000-\U000e007f]")
HEADERS = (
    "Subject: a{0}b",
    "User-Agent: Phone{0}/1",
    "X-Note: {0}",
    "Organization: {0}",
    'Reply-To: "{0}" <sip:alice@192.0.2.10>',
    "Priority: ur{0}gent",
    "Call-Info: <http://h/{0}>;purpose=icon",
    'Reason: Q.850;cause=16;text="a{0}b"',
    "Alert-Info: <http://h/x>;x={0}",
)
ANSWERED = (
    "Server: {0}",
    'Warning: 399 h "{0}"',
    "X-Note: {0}",
    'Reason: SIP;cause=486;text="{0}"',
    "Retry-After: 5 ({0})",
)


def assert_clean(bench: Bench) -> None:
    assert len(bench.octets) > 1
    for data in bench.octets:
        found = UNSAFE.search(data.decode())
        assert found is None, (found, data)


@pytest.mark.parametrize("hostile", HOSTILE, ids=ascii)
def test_nothing_of_it_crosses_with_a_call(hostile: str) -> None:
    bench = Bench(headers=RULES)
    text = INVITE.format(branch="i1").replace('"Alice"', f'"A\\{hostile}lice"')
    lines = "\n".join((text, *(line.format(hostile) for line in HEADERS)))
    body = sdp("192.0.2.10").replace(b"s=", f"s={hostile}".encode(), 1)
    bench.raw(f"{lines}\nContent-Length: {len(body)}\n\n".replace("\n", "\r\n").encode() + body, ALICE)
    out = bench.request(BOB, "INVITE")
    more = "\r\n".join(line.format(hostile) for line in ANSWERED)
    for status, octets in ((180, b""), (200, sdp("192.0.2.20").replace(b"s=", f"s={hostile}".encode(), 1))):
        head = reply(out, status, octets, extra=more.replace("\r\n", "\n")).replace(
            f"{status} X", f"{status} X{hostile}"
        )
        bench.raw(f"{head}\nContent-Length: {len(octets)}\n\n".replace("\n", "\r\n").encode() + octets, BOB)
    ok = bench.take(ALICE)[-1]
    assert isinstance(ok, Response)
    assert ok.status == 200
    assert bench.request(BOB, "ACK")
    info = within("INFO", ok, 2, "n1")
    bench.raw(f"{info}\nX-Note: {hostile}\nContent-Length: 0\n\n".replace("\n", "\r\n").encode(), ALICE)
    assert bench.request(BOB, "INFO").first("X-Note")
    assert_clean(bench)


@pytest.mark.parametrize("hostile", HOSTILE, ids=ascii)
def test_nor_with_a_refusal_and_its_reason(hostile: str) -> None:
    bench = Bench(headers=RULES)
    invite(bench)
    out = bench.request(BOB, "INVITE")
    more = "\n".join(line.format(hostile) for line in ANSWERED)
    head = reply(out, 486, extra=more).replace("486 X", f"486 Busy{hostile}")
    bench.raw(f"{head}\nContent-Length: 0\n\n".replace("\n", "\r\n").encode(), BOB)
    assert bench.take(ALICE)[-1].first("X-Note")
    assert_clean(bench)


def test_letters_of_all_kinds_cross() -> None:
    bench = Bench(headers=RULES)
    name = "Zoë 山田 \u200dש"
    invite(bench, extra=f"Subject: {name}")
    out = bench.request(BOB, "INVITE")
    assert out.first("Subject") == name
    answer(bench, out, 486)
