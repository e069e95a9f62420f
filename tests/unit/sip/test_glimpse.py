"""The cheap look at a request, side by side with the whole reading of it."""

from __future__ import annotations

import random

import pytest

from pbx_sip.errors import RemoteError
from pbx_sip.message.glimpse import HEAD_MAX, glimpse
from pbx_sip.message.message import Request
from pbx_sip.message.parse import parse
from pbx_sip.message.validate import validate_request
from support.mutation import mutated, seeds

PLAIN = (
    "{method} sip:1008@pbx.local SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK1;rport\r\n"
    "Via: SIP/2.0/TCP p.example;branch=z9hG4bK0\r\nMax-Forwards: 70\r\n"
    'From: "Al ice" <sip:1004@pbx.local>;tag=a\r\nTo: <sip:1008@pbx.local>\r\nCall-ID: c@x\r\nCSeq: 7 {method}\r\n'
    "Contact: <sip:1004@192.0.2.10>\r\nX-Any: thing\r\nUser-Agent: Phone 1\r\n"
    'Proxy-Authorization: Digest username="1004", realm="pbx.local", nonce="n", uri="sip:x", response="0"\r\n'
    'Authorization: Digest username="1004", realm="pbx.local", nonce="m", uri="sip:x", response="0"\r\n'
    "Content-Length: 3\r\n\r\nabc"
)
COPIED = {"Via", "From", "To", "Call-ID", "CSeq"}


def plain(method: str = "INVITE", old: str = "", new: str = "") -> bytes:
    text = PLAIN.replace("{method}", method)
    assert old in text
    return text.replace(old, new).encode() if old else text.encode()


def assert_the_same(data: bytes) -> bool:
    """Whether there was a glimpse; where there was, the whole reading must see the same and refuse nothing."""
    seen = glimpse(data)
    if seen is None:
        return False
    request = parse(data)
    assert isinstance(request, Request)
    validate_request(request)
    assert request.to_tag == ""
    assert (seen.request.method, seen.request.uri) == (request.method, request.uri)
    assert seen.request.headers.items == [item for item in request.headers.items if item[0] in COPIED]
    name = "Authorization" if request.method == "REGISTER" else "Proxy-Authorization"
    assert seen.credentials == request.headers.all(name)
    assert seen.user_agent == (request.first("User-Agent") or "")
    assert not request.headers.all("Require")
    assert not request.headers.all("Privacy")
    assert request.first("Max-Forwards") != "0"
    return True


@pytest.mark.parametrize("method", ["INVITE", "REGISTER", "MESSAGE"])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", ""),
        ("Via: SIP/2.0/UDP", "v:SIP/2.0/UDP"),
        ("From: ", "f:"),
        ("To: ", "tO : "),
        ("Call-ID: ", "i :\t"),
        ("Content-Length: 3", "l: 2"),
        ("Max-Forwards: 70\r\n", ""),
        ("<sip:1008@pbx.local>", "<sips:+4930%20x@[::1]>".replace("[::1]", "h")),
        ('"Al ice" <', "Al ice <"),
        ("Content-Length: 3\r\n", ""),
    ],
)
def test_plain_requests_are_seen(method: str, old: str, new: str) -> None:
    assert assert_the_same(plain(method, old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("INVITE sip:1008", "invite sip:1008"),
        ("INVITE sip:", "OPTIONS sip:"),
        ("sip:1008@pbx.local SIP", "sip:1008@pbx.local?x=y SIP"),
        ("sip:1008@pbx.local SIP", "tel:1008 SIP"),
        ("SIP/2.0\r\nVia", "SIP/3.0\r\nVia"),
        ("To: <sip:1008@pbx.local>", "To: <sip:1008@pbx.local>;tag=x"),
        ("To: <sip:1008@pbx.local>", "To: <sip:1008@pbx.local"),
        ("To: <sip:1008@pbx.local>\r\n", ""),
        ("To: <sip:1008@pbx.local>\r\n", "To: <sip:1008@pbx.local>\r\nTo: <sip:1008@pbx.local>\r\n"),
        ("Call-ID: c@x\r\n", "Call-ID: \r\n"),
        ("CSeq: 7 INVITE", "CSeq: 7 BYE"),
        ("CSeq: 7 INVITE", "CSeq: x INVITE"),
        ("CSeq: 7 INVITE", "CSeq: 9999999999 INVITE"),
        ("Max-Forwards: 70", "Max-Forwards: 0"),
        ("Max-Forwards: 70", "Max-Forwards: 256"),
        ("X-Any: thing", "Require: 100rel"),
        ("X-Any: thing", "Privacy: id"),
        ("X-Any: thing", "no colon"),
        ("X-Any: thing", " folded"),
        ("X-Any: thing", "X Any: thing"),
        ("X-Any: thing", "X-Any: th\ring"),
        ("X-Any: thing", "X-Any: th\ning"),
        ("X-Any: thing", "X-Any: th\u00e9ng"),
        ("X-Any: thing", "X-Any: th\x00ing"),
        ('"Al ice"', '"Al\x7fice"'),
        ("X-Any: thing", "X-Any: " + "x" * HEAD_MAX),
        ("Content-Length: 3", "Content-Length: 4"),
        ("Content-Length: 3", "Content-Length: 3\r\nl: 2"),
        ("Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK1;rport", "Via: nonsense"),
        (";rport", ";;rport"),
        (";rport", ";"),
        ("\r\n\r\nabc", "\r\n"),
        ("<sip:1004@pbx.local>;tag=a", "<http://x>;tag=a"),
        ("<sip:1004@pbx.local>;tag=a", "<sip:1004@pbx.local:0>;tag=a"),
    ],
)
def test_what_takes_more_to_judge_is_left_to_the_whole_reading(old: str, new: str) -> None:
    assert glimpse(plain("INVITE", old, new)) is None


@pytest.mark.parametrize("seed", range(4))
def test_whatever_comes_is_seen_as_it_is_read_or_not_at_all(seed: int) -> None:
    chance = random.Random(seed)
    corpus = [*seeds(), *(plain(method) for method in ("INVITE", "REGISTER", "MESSAGE") for _ in range(30))]
    seen = 0
    for _ in range(6_000):
        data = mutated(chance, corpus)
        try:
            seen += assert_the_same(data)
        except RemoteError as error:
            raise AssertionError(f"seed {seed}: {error!r} for {data!r}") from error
    assert seen > 50


def test_it_takes_time_in_proportion_to_length() -> None:
    for filler in ("a:", "a@", ";a=", " ", "%", '"', "<sip:", "\r\na:", "\r\nVia: SIP/2.0/UDP h;x=", "."):
        for place in ("1008@pbx.local SIP", "X-Any: thing", "192.0.2.10:5060", '"Al ice"'):
            glimpse(plain("INVITE", place, filler * (3_000 // len(filler)) + place))
