"""Values made to be slow: work must grow with the length of the input, not with its square."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from pbx_sip.auth.digest import Challenge, Credentials
from pbx_sip.errors import RemoteError
from pbx_sip.header.name_addr import NameAddr
from pbx_sip.message.framing import StreamFramer
from pbx_sip.message.headers import split_commas, split_semicolons
from pbx_sip.message.parse import parse
from pbx_sip.message.uri import Uri
from pbx_sip.message.validate import validate_request
from pbx_sip.sdp.model import SessionDescription

HEAD = "OPTIONS sip:a SIP/2.0\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: a\r\nCSeq: 1 OPTIONS\r\n"
LIMIT_S = 0.1
"""CPU seconds. Each takes below 10 ms; what backtracked took above 140 ms. CPU time, so that load spoils nothing."""


def with_via(via: str) -> None:
    validate_request(parse(f"{HEAD}Via: {via}\r\n\r\n".encode()))  # type: ignore[arg-type]


def with_from(value: str) -> None:
    validate_request(parse(f"{HEAD.replace('<sip:a@b>;tag=1', value)}Via: SIP/2.0/UDP a\r\n\r\n".encode()))  # type: ignore[arg-type]


def views(text: str) -> None:
    for media in SessionDescription.parse(text.encode()).media:
        assert media.payload_types is not None
        assert media.rtcp is not None


SDP = "v=0\r\no=- 1 1 IN IP4 h\r\nc=IN IP4 h\r\nm=audio 4 RTP/AVP " + "0 " * 200 + "\r\n"
CASES: list[tuple[Callable[[str], object], str]] = [
    (with_via, "SIP" + "/" * 8000),
    (with_via, "SIP/" + "a/" * 4000),
    (with_via, "SIP/ " + "/ " * 4000),
    (with_via, "SIP" + " " * 8000),
    (with_via, "SIP/2.0/UDP a;" + ";" * 8000),
    (Uri.parse, "sip:" + "@" * 2000),
    (Uri.parse, "sip:a" + ";a" * 1000),
    (Uri.parse, "sip:a?" + "?" * 2000),
    (NameAddr.parse, '"' + "\\" * 8000),
    (NameAddr.parse, "<sip:a>" + ';"' * 4000),
    (NameAddr.parse, "<" * 8000),
    (NameAddr.parse, "a" + " " * 8000 + "b"),
    (NameAddr.parse, '"a"' + " \t" * 4000 + "b"),
    (NameAddr.parse, "<sip:" + "a" * 8000),
    (with_from, "a" + " " * 8000 + "b"),
    (with_from, '"' + "a" * 4000 + '" <sip:' + "a" * 4000),
    (with_from, "<sip:a" + ";a" * 1000 + ">" + ";a" * 3000 + "<"),
    (split_commas, '"\\' * 4000),
    (split_semicolons, "<;" * 4000),
    (Credentials.parse, "Digest " + 'a="' * 1300),
    (Credentials.parse, "Digest " + "a " * 2000),
    (Credentials.parse, "Digest " + 'a="' + "\\" * 4000),
    (Credentials.parse, "Digest " + "," * 4000),
    (Challenge.parse, "Digest " + ", " * 4000),
    (Challenge.parse, "Digest a=" + "b " * 4000),
    (Challenge.parse, "Digest " + "a=b," * 2000 + "="),
    (Challenge.parse, "Digest " + "a=b ," * 1500 + "a"),
    (Challenge.parse, "Digest " + 'a="\\"' * 800),
    (views, SDP + "a=rtpmap:0 a/1\r\n" * 1000),
    (lambda text: StreamFramer().receive(text.encode()), "x" * 60_000 + "\r\nl:" + "\t" * 5000),
    (lambda text: StreamFramer().receive(text.encode()), "\r\nx\r\nl" * 9000),
    (lambda text: parse(text.encode()), HEAD + "A:b\r\n" + " c\r\n" * 245 + "\r\n"),
]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_hostile_value_is_read_or_refused_in_linear_time(case: int) -> None:
    read, text = CASES[case]
    before = time.process_time()
    with suppress(RemoteError):
        read(text)
    assert time.process_time() - before < LIMIT_S


@pytest.mark.parametrize("via", ["SIP / 2.0 / UDP 192.0.2.2", "sip/2.0/udp a", "SIP/3.0/X\ty"])
def test_via_with_white_space_is_one(via: str) -> None:
    with_via(via)


@pytest.mark.parametrize("via", ["SIP//UDP a", "SIP/2.0/ a/b", "HTTP/2.0/UDP a", "SIP/2.0 a", "SIP 2.0 UDP a"])
def test_via_that_is_none_is_refused(via: str) -> None:
    with pytest.raises(RemoteError, match="Via that is none"):
        with_via(via if not via.startswith("SIP/2.0/") else "sip" + via[3:])
