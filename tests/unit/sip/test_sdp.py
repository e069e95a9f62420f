"""Session descriptions: what is read of them, and that rewriting touches nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbx_sip.errors import RemoteError
from pbx_sip.sdp.model import SessionDescription
from pbx_sip.sdp.negotiate import Origin, StreamRewrite, rewrite

OFFER = (
    b"v=0\r\no=alice 2890844526 2890844526 IN IP4 192.0.2.10\r\ns=Call\r\nc=IN IP4 192.0.2.10\r\nb=AS:64\r\n"
    b"t=0 0\r\na=x-odd: spaces  kept \r\n"
    b"m=audio 49170 RTP/AVP 0 96 101\r\na=rtpmap:96 opus/48000/2\r\na=rtpmap:101 telephone-event/8000\r\n"
    b"a=fmtp:101 0-16\r\na=ptime:20\r\na=rtcp:53020 IN IP4 192.0.2.11\r\na=sendonly\r\n"
    b"m=video 51372 RTP/AVP 31\r\nc=IN IP6 2001:db8::5\r\na=rtcp-mux\r\na=candidate:1 1 UDP 1 192.0.2.10 1 typ host\r\n"
    b"m=audio 49180 RTP/AVP 8\r\n"
)


def test_reading():
    audio, video, second = SessionDescription.parse(OFFER).media
    assert (audio.kind, audio.port, audio.connection, audio.direction) == ("audio", 49170, "192.0.2.10", "sendonly")
    assert (audio.rtcp.host, audio.rtcp.port, audio.rtcp_mux) == ("192.0.2.11", 53020, False)
    assert [(p.number, p.encoding, p.clock_rate_hz, p.channels, p.ptime_ms) for p in audio.payload_types] == [
        (0, "PCMU", 8000, 1, 20),
        (96, "opus", 48000, 2, 20),
        (101, "telephone-event", 8000, 1, 20),
    ]
    assert (video.connection, video.rtcp_mux, video.rtcp.port, video.direction) == (
        "2001:db8::5",
        True,
        51372,
        "sendrecv",
    )
    assert second.payload_types[0].encoding == "PCMA"


def test_rewriting_changes_addresses_and_ports_alone():
    description = SessionDescription.parse(OFFER)
    made = rewrite(
        description, [StreamRewrite(30000, 30001), StreamRewrite(30002, 30003), None], "192.0.2.2", Origin(7, 3)
    )
    assert made.decode().split("\r\n") == [
        "v=0",
        "o=alice 7 3 IN IP4 192.0.2.2",
        "s=Call",
        "c=IN IP4 192.0.2.2",
        "b=AS:64",
        "t=0 0",
        "a=x-odd: spaces  kept ",
        "m=audio 30000 RTP/AVP 0 96 101",
        "a=rtpmap:96 opus/48000/2",
        "a=rtpmap:101 telephone-event/8000",
        "a=fmtp:101 0-16",
        "a=ptime:20",
        "a=rtcp:30001 IN IP4 192.0.2.2",
        "a=sendonly",
        "m=video 30002 RTP/AVP 31",
        "a=rtcp-mux",
        "m=audio 0 RTP/AVP 8",
        "",
    ]


def test_rewriting_to_ipv6():
    description = SessionDescription.parse(OFFER)
    made = rewrite(description, [StreamRewrite(1, 2), None, None], "2001:db8::2", Origin(1, 1)).decode()
    assert "c=IN IP6 2001:db8::2\r\n" in made
    assert "o=alice 1 1 IN IP6 2001:db8::2\r\n" in made
    assert "a=rtcp:2 IN IP6 2001:db8::2\r\n" in made
    assert "192.0.2.1" not in made


def test_bare_line_feeds_stay_what_they_are():
    made = rewrite(SessionDescription.parse(OFFER.replace(b"\r\n", b"\n")), [None] * 3, "192.0.2.2", Origin(1, 1))
    assert b"\r" not in made


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"v=1\r\n",
        b"v=0\r\ns=-\r\nt=0 0\r\n",
        b"v=0\r\no=- 1 1 IN IP4 h\r\nrubbish\r\n",
        b"v=0\r\no=- 1 1 IN IP4 h\r\nm=audio 1 RTP/AVP 0\r\n",
        b"v=0\r\no=- 1 1 IN IP4 h\r\nc=IN IP4 192.0.2.1\r\nm=audio 99999 RTP/AVP 0\r\n",
        b"v=0\r\no=- 1 1 IN IP4 h\r\nc=IN IP4 192.0.2.1\r\nm=audio x RTP/AVP 0\r\n",
        b"v=0\r\no=- 1 1 IN IP4 h\r\nc=IN IP4\r\nm=audio 1 RTP/AVP 0\r\n",
        b"v=0\r\no=- 1 1 IN IP4 h\r\nm=audio 1\r\n",
        b"v=0\r\no=- 1 1 IN IP4 h\r\n" + b"a=x\r\n" * 2000,
        b"v=0\r\no=- 1 1 IN IP4 h\r\na=" + b"x" * 40_000,
    ],
)
def test_what_is_none(text: bytes):
    with pytest.raises(RemoteError):
        SessionDescription.parse(text)


@given(st.binary(max_size=200), st.integers(0, len(OFFER)))
def test_any_bytes_are_read_or_refused(noise: bytes, at: int):
    for data in (noise, OFFER[:at] + noise + OFFER[at:]):
        try:
            description = SessionDescription.parse(data)
            streams = [StreamRewrite(30000, 30001)] * len(description.media)
            again = SessionDescription.parse(rewrite(description, streams, "192.0.2.2", Origin(1, 1)))
            for stream in description.media:
                assert stream.payload_types is not None
                assert stream.rtcp.port <= 65_536
        except RemoteError:
            continue
        assert len(again.media) == len(description.media)
