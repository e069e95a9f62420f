"""Bodies of several parts: where each stands, which are nested, what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbx_sip.errors import LimitExceeded, ParseError, RemoteError
from pbx_sip.message.multipart import MAX_PARTS, is_multipart, parts_of

MIXED = 'multipart/mixed; boundary="b 1"'


def body(text: str) -> bytes:
    """Lines as they stand on the wire."""
    return text.replace("\n", "\r\n").encode()


def test_parts_with_and_without_header_fields():
    data = body(
        "a preamble\n--b 1\nContent-Type: application/SDP\nContent-Disposition: session;\n handling=required\n\nv=0\n"
        "\n--b 1  \n\nno header fields\n--b 1\nc: application/isup;version=itu-t92\n\n\x01--b 1\n--b 1--\nan epilogue"
    )
    found = parts_of(MIXED, data)
    assert [(part.content_type, part.disposition, data[part.start : part.end]) for part in found] == [
        ("application/sdp", "session", b"v=0\r\n"),
        ("text/plain", "", b"no header fields"),
        ("application/isup", "", b"\x01--b 1"),
    ]


def test_a_part_can_be_cut_out():
    data = body("--b 1\n\none\n--b 1\n\ntwo\n--b 1--")
    one, two = parts_of(MIXED, data)
    assert data[: two.delimiter] + data[two.end :] == body("--b 1\n\none\n--b 1--")
    assert data[: one.delimiter] + data[one.end :] == b"\r\n" + body("--b 1\n\ntwo\n--b 1--")


def test_nested_bodies_are_given_by_their_parts():
    data = body(
        "--o\nContent-Type: Multipart/Alternative;boundary=i\n\n--i\n\none\n--i\n\ntwo\n--i--\n--o\n\nthree\n--o--"
    )
    assert [data[part.start : part.end] for part in parts_of("multipart/mixed;boundary=o", data)] == [
        b"one",
        b"two",
        b"three",
    ]


def test_bare_line_feeds_and_a_part_without_an_empty_line():
    data = b"--o\nContent-Type: a/b\n\nx\n--o\nContent-Type: c/d\n--o--\n"
    found = parts_of("multipart/mixed; Boundary = o", data)
    assert [(part.content_type, data[part.start : part.end]) for part in found] == [("a/b", b"x"), ("c/d", b"")]


@pytest.mark.parametrize(
    ("content_type", "data"),
    [
        ("multipart/mixed", b"--o\r\n\r\nx\r\n--o--"),
        ('multipart/mixed; boundary=""', b"----"),
        (f"multipart/mixed; boundary={'o' * 71}", b""),
        ("multipart/mixed; boundary=o", b"no boundary"),
        ("multipart/mixed; boundary=o", b"--o--"),
        ("multipart/mixed; boundary=o", b"--o\r\n\r\nno end"),
        ("multipart/mixed; boundary=o", b"x--o\r\n\r\nx\r\n--o--"),
    ],
)
def test_what_has_no_parts(content_type: str, data: bytes):
    with pytest.raises(ParseError):
        parts_of(content_type, data)


def test_limits():
    many = b"--o\r\n\r\nx\r\n" * (MAX_PARTS + 1) + b"--o--"
    with pytest.raises(LimitExceeded):
        parts_of("multipart/mixed; boundary=o", many)
    deep = b"x"
    for name in "dcba":
        deep = b"--%c\r\nContent-Type: multipart/mixed; boundary=%c\r\n\r\n%s\r\n--%c--" % (
            ord(name),
            ord(name) + 1,
            deep,
            ord(name),
        )
    with pytest.raises(LimitExceeded):
        parts_of("multipart/mixed; boundary=a", deep)


@given(st.binary(max_size=300), st.sampled_from(["o", "--", " ", "("]))
def test_any_octets_are_read_or_refused(data: bytes, boundary: str):
    wrapped = b"--" + boundary.encode() + data
    try:
        found = parts_of(f'multipart/mixed; boundary="{boundary}"', wrapped)
    except RemoteError:
        return
    ends = 0
    for part in found:
        assert ends <= part.delimiter <= part.start <= part.end <= len(wrapped)
        ends = part.end


def test_which_types_are_multipart():
    assert is_multipart(" Multipart/mixed;boundary=x")
    assert not is_multipart("text/multipart/x")
