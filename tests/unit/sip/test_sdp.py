"""Session descriptions: what is read of them, and that rewriting touches nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbx_sip.errors import ParseError, RemoteError
from pbx_sip.sdp import model
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
        51373,
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


PLAIN = (
    b"v=0\r\no=- 1 1 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\n"
    b"m=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=sendonly\r\n"
)


@pytest.mark.parametrize(
    "written",
    [
        PLAIN.replace(b"\r\n", b"\n"),
        PLAIN.replace(b"\r\n", b"\r"),
        PLAIN + b"\0",
        PLAIN + b"\r\n \r\n\t\r\n\0\0",
        PLAIN.rstrip(),
        PLAIN.replace(b"t=0 0", b"\r\nt=0 0\r\n"),
        PLAIN.replace(b"o=- 1 1 IN IP4 192.0.2.10\r\n", b""),
        PLAIN.replace(b"s=-\r\n", b""),
        PLAIN.replace(b"s=-\r\n", b"s=\r\n"),
        PLAIN.replace(b"t=0 0\r\n", b""),
        PLAIN.replace(b"c=IN IP4", b"c=in ip4").replace(b"RTP/AVP", b"rtp/avp").replace(b"m=audio", b"M=AUDIO"),
        PLAIN.replace(b"a=sendonly", b"A=SendOnly ").replace(b"a=rtpmap", b"a=RtpMap"),
        PLAIN.replace(b"c=IN IP4 192.0.2.10\r\nt=0 0\r\n", b"t=0 0\r\nc=IN IP4 192.0.2.10\r\n"),
        PLAIN.replace(b"m=audio 4000 ", b"m=audio\t4000\t"),
        PLAIN.replace(b"c=IN IP4 192.0.2.10", b"c=IN IP4 192.0.2.10/127"),
        PLAIN.replace(b"m=audio 4000 ", b"m=audio 4000/1 "),
    ],
)
def test_what_plain_devices_write_comes_out_lawful(written: bytes):
    description = SessionDescription.parse(written)
    made = rewrite(description, [StreamRewrite(30000, 30001)], "192.0.2.2", Origin(1, 1))
    assert made == PLAIN.replace(b"192.0.2.10", b"192.0.2.2").replace(b"4000", b"30000")
    assert description.media[0].direction == "sendonly"


@pytest.mark.parametrize(
    ("line", "out"),
    [
        (b"m=video 0 RTP/AVP\r\n", b"m=video 0 RTP/AVP 0\r\n"),
        (b"m=application 0 TCP/BFCP\r\n", b"m=application 0 TCP/BFCP *\r\n"),
        (b"m=image 0 udptl t38\r\n", b"m=image 0 UDPTL t38\r\n"),
    ],
)
def test_a_refused_stream_needs_no_formats(line: bytes, out: bytes):
    description = SessionDescription.parse(PLAIN + line)
    streams = [StreamRewrite(30000, 30001), None]
    assert rewrite(description, streams, "192.0.2.2", Origin(1, 1)).endswith(out)


def test_what_is_said_anew():
    offer = PLAIN + b"a=rtcp-mux\r\na=rtcp:9 IN IP4 0.0.0.0\r\n"
    stream = StreamRewrite(30000, 30001, "RTP/AVPF", "inactive", mux=False)
    made = rewrite(SessionDescription.parse(offer), [stream], "192.0.2.2", Origin(1, 1))
    assert made.endswith(
        b"m=audio 30000 RTP/AVPF 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=rtcp:30001 IN IP4 192.0.2.2\r\n"
        b"a=inactive\r\n"
    )


BROWSER = (
    b"v=0\r\no=- 4611 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\na=extmap-allow-mixed\r\n"
    b"a=msid-semantic: WMS\r\na=fingerprint:sha-256 AB:CD\r\na=ice-options:trickle\r\na=group:LS 0 1\r\n"
    b"m=audio 9 UDP/TLS/RTP/SAVPF 111 0\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\na=ice-ufrag:a\r\n"
    b"a=ice-pwd:b\r\na=setup:actpass\r\na=mid:0\r\na=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n"
    b"a=sendrecv\r\na=msid:- t\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\na=rtcp-fb:111 nack\r\n"
    b"a=fmtp:111 minptime=10\r\na=ssrc:1 cname:x\r\n"
    b"m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\na=rtcp-rsize\r\n"
)


def test_of_a_browser_nothing_is_left_that_does_not_pass_the_relay():
    description = SessionDescription.parse(BROWSER)
    made = rewrite(description, [StreamRewrite(30000, 30001, "RTP/AVP"), None], "192.0.2.2", Origin(1, 1))
    assert made == (
        b"v=0\r\no=- 1 1 IN IP4 192.0.2.2\r\ns=-\r\nc=IN IP4 192.0.2.2\r\nt=0 0\r\n"
        b"m=audio 30000 RTP/AVP 111 0\r\na=rtcp:30001 IN IP4 192.0.2.2\r\na=sendrecv\r\na=rtcp-mux\r\n"
        b"a=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10\r\nm=video 0 UDP/TLS/RTP/SAVPF 96\r\n"
    )


@pytest.mark.parametrize(("members", "stays"), [(b"a v", True), (b"a", True), (b"a v x", False)])
def test_a_group_stays_with_all_of_its_streams_and_bundle_never(members: bytes, stays: bool):
    offer = PLAIN.replace(b"t=0 0\r\n", b"t=0 0\r\na=group:LS " + members + b"\r\na=group:BUNDLE a v\r\n")
    offer += b"a=mid:a\r\nm=video 4002 RTP/AVP 34\r\na=mid:v\r\nm=text 4004 RTP/AVP 98\r\na=mid:x\r\n"
    streams = [StreamRewrite(30000, 30001), StreamRewrite(30002, 30003), None]
    made = rewrite(SessionDescription.parse(offer), streams, "192.0.2.2", Origin(1, 1))
    assert (b"a=group:LS" in made) == stays
    assert b"BUNDLE" not in made


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"v=1\r\n",
        b"v=0\r\no=- 1 1 IN IP4 h\r\nrubbish\r\n",
        b"v=0\r\no=- 1 1 IN IP4 h\r\nm=audio 1 RTP/AVP 0\r\n",
        b"v=0\r\no=- 1 1 IN IP4 h\r\nc=IN IP4 192.0.2.1\r\nm=audio 99999 RTP/AVP 0\r\n",
        b"v=0\r\no=- 1 1 IN IP4 h\r\nc=IN IP4 192.0.2.1\r\nm=audio x RTP/AVP 0\r\n",
        b"v=0\r\no=- 1 1 IN IP4 h\r\nc=IN IP4\r\nm=audio 1 RTP/AVP 0\r\n",
        b"v=0\r\no=- 1 1 IN IP4 h\r\nm=audio 1\r\n",
        b"v=0\r\no=- 1 1 IN IP4 h\r\nc=IN IP4 192.0.2.1\r\nm=audio 4000 RTP/AVP\r\n",
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


LINE_OF_SDP = st.sampled_from(
    (
        *(
            b"v=0",
            b"o=- 1 1 IN IP4 h",
            b"s=-",
            b"c=IN IP4 192.0.2.1",
            b"t=0 0",
            b"m=audio 4000 RTP/AVP 0",
            b"a=sendonly",
        ),
        *(
            b"A=sendrecv",
            b"a=PTIME:20",
            b"a=ptime :20",
            b" a=x",
            b"",
            b"  ",
            b"x",
            b"=",
            b"a",
            b"a=",
            b"a=\xff",
            b"a=\x00",
        ),
        *(b"a=\tb", b"a=b\rc", b"a=b\nc", b"i=\xc2\x85", b"9=x", b"a=rtpmap:0 PCMU/8000"),
    )
)


@given(
    st.lists(LINE_OF_SDP, max_size=8), st.sampled_from((b"\r\n", b"\n", b"\r")), st.sampled_from((b"", b"\r\n", b"\0"))
)
def test_plain_lines_that_are_looked_up_say_what_any_lines_say(
    lines: list[bytes], line_end: bytes, last: bytes
) -> None:
    data = line_end.join(lines) + last
    for _ in range(2):  # learned, then remembered
        assert outcome(model._lines, data) == outcome(model._any_lines, data.rstrip(b"\0\t\r\n "))


def outcome(read: Callable[[bytes], object], data: bytes) -> object:
    """What was read, or that it was refused."""
    try:
        return read(data)
    except ParseError as refused:
        return refused.status_hint


def test_lines_that_are_remembered_are_bounded() -> None:
    for number in range(model.REMEMBERED + 10):
        SessionDescription.parse(b"v=0\r\ns=%d\r\na=x:%s" % (number, b"y" * 200))
        assert len(model.PLAIN_LINES) <= model.REMEMBERED
    assert not any(line.startswith(b"a=x:") for line in model.PLAIN_LINES)
