"""The contract of all parsers, "accepted, or refused with RemoteError", on mutations of the torture messages.

The same targets run under atheris for as long as one likes: `make fuzz`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pbx_sip.errors import ParseError
from pbx_sip.header.name_addr import NameAddr
from support.fuzz_targets import TARGETS

TORTURE = Path(__file__).resolve().parents[2] / "data" / "rfc4475"
MESSAGES = [path.read_bytes() for path in sorted(TORTURE.glob("*.dat"))]
DESCRIPTION = (
    b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\na=sendonly\r\n"
    b"m=audio 4000/2 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000/1\r\na=rtcp:4001 IN IP4 192.0.2.1\r\n"
    b"a=ptime:20\r\nm=video 5000 RTP/SAVPF 96\r\nc=IN IP6 2001:db8::1\r\na=rtpmap:96 VP8/90000\r\na=rtcp-mux\r\n"
    b"a=candidate:1 1 UDP 1 192.0.2.1 5 typ host\r\nm=image 0 udptl t38\r\n"
)
SEEDS = {"message": MESSAGES, "stream": MESSAGES, "description": [DESCRIPTION]}
INSERTIONS = st.one_of(
    st.sampled_from(
        [
            *(b"\r\n", b"\n", b"\r", b"\r\n\r\n", b" ", b"\t", b":", b";", b",", b'"', b"<", b">", b"\\", b"@", b"?"),
            *(
                b"%00",
                b"\0",
                b"\xff",
                b"\xc2\xb2",
                b"\xd9\xa3",
                b"\xe2\x80\xa8",
                b"\xc2\x85",
                b"\x0b",
                b"\x0c",
                b"\x1c",
            ),
            *(b"Content-Length: 0\r\n", b"l:1\r\n", b"Via: ", b"99999999999", b"-1", b"[", b"]", b"tag=", b";branch="),
            *(b"m=", b"a=rtpmap:", b"c=IN IP4 ", b"a=rtcp:", b"SIP/2.0"),
        ]
    ),
    st.binary(max_size=6),
)


@st.composite
def mutations(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 12))] = draw(INSERTIONS)
    return bytes(data)


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_seeds_keep_the_contract(target: str) -> None:
    for data in SEEDS[target]:
        TARGETS[target](data)


@settings(max_examples=150, deadline=None)
@given(mutations(MESSAGES))
def test_mutated_message_is_accepted_or_refused(data: bytes) -> None:
    TARGETS["message"](data)


@settings(max_examples=100, deadline=None)
@given(mutations(MESSAGES))
def test_mutated_stream_is_framed_or_refused(data: bytes) -> None:
    TARGETS["stream"](data)


@settings(max_examples=150, deadline=None)
@given(mutations([DESCRIPTION]))
def test_mutated_description_is_relayed_or_refused(data: bytes) -> None:
    TARGETS["description"](data)


@pytest.mark.parametrize("value", ["sip:a>b", "sip:a>;tag=1", 'sip:a"b"'])
def test_address_without_brackets_may_not_close_one(value: str) -> None:
    with pytest.raises(ParseError, match="bracket not opened"):
        NameAddr.parse(value)


def test_quotation_open_in_a_parameter_is_read_alike_with_and_without_brackets() -> None:
    bare, bracketed = NameAddr.parse('sip:a;tag=x"y;lr'), NameAddr.parse('<sip:a>;tag=x"y;lr')
    assert bare == bracketed
    assert NameAddr.parse(str(bare)) == bare
