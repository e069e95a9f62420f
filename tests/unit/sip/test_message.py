"""Messages: one table of bytes and values drives reading and writing; limits; any bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbx_sip.errors import LocalError, RemoteError
from pbx_sip.message.headers import Headers
from pbx_sip.message.message import Request, Response, parameter_of, response_to, tag_of, with_tag
from pbx_sip.message.parse import parse
from pbx_sip.message.serialize import serialize

CASES = [
    (
        b"OPTIONS sip:a@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nX-Odd:  kept\r\nContent-Length: 0\r\n\r\n",
        Request("OPTIONS", "sip:a@h", Headers([("Via", "SIP/2.0/UDP h;branch=z9hG4bK1"), ("X-Odd", "kept")])),
    ),
    (
        b"SIP/2.0 200 Tr\xc3\xa8s bien\r\nContent-Length: 4\r\n\r\nbody",
        Response(200, "Très bien", Headers(), b"body"),
    ),
    (b"SIP/2.0 100 \r\nl: 0\r\n\r\n", Response(100, "", Headers())),
    (
        b"BYE sip:h SIP/2.0\r\nf: <sip:a@h>;tag=\xff\r\n\r\n",
        Request("BYE", "sip:h", Headers([("From", "<sip:a@h>;tag=\udcff")])),
    ),
    (b"BYE sip:h SIP/2.0\nSubject: a\n b\n\tc\n\n", Request("BYE", "sip:h", Headers([("Subject", "a b c")]))),
]


@pytest.mark.parametrize(("data", "message"), CASES)
def test_reading_and_writing(data: bytes, message: Request | Response):
    read = parse(data)
    assert type(read) is type(message)
    fields = [item for item in read.headers if item[0] != "Content-Length"]
    assert (fields, read.body) == (list(message.headers), message.body)
    again = parse(serialize(read))
    assert [item for item in again.headers if item[0] != "Content-Length"] == fields
    assert again.body == read.body


def test_octets_behind_content_length_are_dropped():
    assert parse(b"BYE sip:h SIP/2.0\r\nContent-Length: 2\r\n\r\nabcd").body == b"ab"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", 400),
        (b"\r\n\r\n", 400),
        (b"hello", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"BYE sip:h SIP/3.0\r\n\r\n", 505),
        (b"BYE  sip:h SIP/2.0\r\n\r\n", 400),
        (b"SIP/2.0 20 OK\r\n\r\n", 400),
        (b"SIP/2.0 999 OK\r\n\r\n", 400),
        (b"BYE sip:h SIP/2.0\r\nno colon\r\n\r\n", 400),
        (b"BYE sip:h SIP/2.0\r\n folded: first\r\n\r\n", 400),
        (b"BYE sip:h SIP/2.0\r\nb\xc3\xa4d: x\r\n\r\n", 400),
        (b"BYE sip:h SIP/2.0\r\nContent-Length: 5\r\n\r\nabc", 400),
        (b"BYE sip:h SIP/2.0\r\nContent-Length: -1\r\n\r\nabc", 400),
        (b"BYE sip:h SIP/2.0\r\nContent-Length: 1\r\nl: 2\r\n\r\nabc", 400),
        (b"BYE sip:h SIP/2.0\r\n" + b"A: b\r\n" * 300 + b"\r\n", 400),
        (b"BYE sip:h SIP/2.0\r\nA: " + b"b" * 9000 + b"\r\n\r\n", 400),
        (b"BYE sip:h SIP/2.0\r\n\r\n" + b"b" * 70_000, 513),
    ],
)
def test_what_is_none(data: bytes, status: int):
    with pytest.raises(RemoteError) as caught:
        parse(data)
    assert caught.value.status_hint == status


def test_a_value_with_a_line_end_is_never_written():
    for value in ("a\r\nEvil: b", "a\nb", "a\rb"):
        with pytest.raises(LocalError):
            serialize(Response(200, "OK", Headers([("Subject", value)])))


def test_a_response_copies_what_it_must():
    request = parse(
        b"INVITE sip:b@h SIP/2.0\r\nVia: v1\r\nVia: v2\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:b@h>\r\n"
        b"Call-ID: c\r\nCSeq: 1 INVITE\r\nTimestamp: 5\r\nSubject: s\r\n\r\n"
    )
    assert isinstance(request, Request)
    names = [name for name, _ in response_to(request, 100, to_tag="t").headers]
    assert names == ["Via", "Via", "From", "To", "Call-ID", "CSeq", "Timestamp"]
    assert response_to(request, 180, to_tag="t").to_tag == "t"
    assert response_to(request, 404).reason == "Not Found"


def test_parameters_are_those_behind_the_address():
    assert parameter_of("<sip:a@h;tag=no>;tag=yes", "tag") == "yes"
    assert parameter_of("sip:a@h ; TAG = x", "tag") == "x"
    assert parameter_of("<sip:a@h>", "tag") == ""


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes):
    try:
        message = parse(data)
    except RemoteError:
        return
    assert parse(serialize(message)).body == message.body


@pytest.mark.parametrize(
    ("value", "tag"),
    [
        ('sip:a@h;x="<y>";tag=1', "1"),
        ('<sip:a@h>;x=";tag=evil";tag=1', "1"),
        ('"n;tag=evil" <sip:a@h>;tag=1', "1"),
        ('<sip:a@h>;x="a>;tag=evil"', ""),
        ("<sip:a@h> ; tag = 1", "1"),
    ],
)
def test_a_parameter_in_a_quotation_is_none(value: str, tag: str) -> None:
    assert tag_of(value) == tag


@pytest.mark.parametrize("value", ["7 INVITE", "7   INVITE", "7\tINVITE", "7 \t INVITE"])
def test_white_space_in_cseq(value: str) -> None:
    message = Request("INVITE", "sip:a", Headers([("CSeq", value)]))
    assert (message.cseq_number, message.cseq_method) == (7, "INVITE")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("<sip:a@h>", "<sip:a@h>;tag=new"),
        ("<sip:a@h>;tag=old", "<sip:a@h>;tag=new"),
        ('"old" <sip:old@h>;tag=old;x=1', '"old" <sip:old@h>;tag=new;x=1'),
    ],
)
def test_another_tag(before: str, after: str) -> None:
    assert with_tag(before, "new") == after
