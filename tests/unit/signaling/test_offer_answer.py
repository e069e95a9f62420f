"""Offer and answer through the B2BUA: a table of what each side is told, and what holds for any of both."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pbx_signaling.calls.signals import Side
from pbx_signaling.media.endpoint import SessionRefused
from pbx_sip.sdp.carry import RECEIVES, SENDS
from pbx_sip.sdp.model import SessionDescription
from support.offer_answer import HOST4, HOST6, PORTS, Player, Story, is_lawful, lines_of, stories, written

TABLE = stories(Path(__file__).parents[2] / "data" / "offer_answer.txt")


def test_the_table_is_long_and_its_titles_tell_its_rows_apart() -> None:
    assert len(TABLE) >= 120
    assert len({story.name for story in TABLE}) == len(TABLE)


@pytest.mark.parametrize("story", TABLE, ids=str)
def test_what_either_side_is_told(story: Story) -> None:
    assert lines_of(Player().play(story)) == lines_of(story)


# --- and for any

KINDS = st.sampled_from(["audio", "audio", "video", "text", "application"])
PROTOS = st.sampled_from(
    ["RTP/AVP", "RTP/AVP", "RTP/SAVP", "RTP/AVPF", "RTP/SAVPF", "UDP/TLS/RTP/SAVPF", "TCP/RTP/AVP", "udptl"]
)
WORDS = st.lists(
    st.sampled_from(
        [
            *("sendonly", "recvonly", "inactive", "sendrecv", "mux", "ice", "crypto", "mid=0"),
            *("c=0.0.0.0", "c=::", "c=phone.example", "c=2001:db8::44", "c=10.9.9.9", "c=198.51.100.9"),
            *("rtcp=4444", "rtcp=9@0.0.0.0", "rtcp=4444@198.51.100.9", "rtcp=0"),
        ]
    ),
    max_size=4,
)
PLACES = st.sampled_from([0, 9, 4000, 4001, 40000, 65534, 65535])


@st.composite
def descriptions(draw: st.DrawFn) -> str:
    count = draw(st.integers(0, 4))
    streams = [" ".join([f"{draw(KINDS)}:{draw(PLACES)}:{draw(PROTOS)}", *draw(WORDS)]) for _ in range(count)]
    head = draw(st.sampled_from(["", "", "[sendonly] ", "[c=0.0.0.0] ", "[inactive c=2001:db8::44] "]))
    return head + (" | ".join(streams) or "-")


@st.composite
def answers(draw: st.DrawFn, offered: SessionDescription) -> str:
    """What a phone that follows the RFC says: as many lines of the same kinds, of alternatives one."""
    streams, taken = [], set()
    for stream in offered.media:
        takes = bool(stream.port) and stream.kind not in taken and draw(st.booleans())
        if takes:
            taken.add(stream.kind)
        port = draw(PLACES.filter(bool)) if takes else 0
        streams.append(" ".join([f"{stream.kind}:{port}:{stream.proto} fmt={stream.formats[0]}", *draw(WORDS)]))
    return " | ".join(streams) or "-"


def told(player: Player, side: Side) -> SessionDescription:
    """What a side got; it is lawful, and no address or port in it is anybody's but the relay's."""
    data = player.got.pop(side)
    assert is_lawful(data), data
    for address in (b"192.0.2.", b"198.51.100.", b"10.9.9.9", b"2001:db8::44", b"0.0.0.0", b"phone.example"):
        assert address not in data, data
    description = SessionDescription.parse(data)
    assert description.connection in (HOST4, HOST6)
    ours = {port for (to, _), pair in PORTS.items() if to == side for port in pair}
    for stream in description.media:
        assert not stream.port or stream.port in ours
        assert stream.connection == description.connection
        rtcp = stream.attribute("rtcp")
        assert rtcp is None or int(rtcp.split()[0]) in (stream.port, stream.port + 1)
        for leads_around in ("candidate", "ice-ufrag", "ice-pwd", "fingerprint"):
            assert stream.attribute(leads_around) is None
    return description


def exchange(player: Player, data: st.DataObject, by: Side) -> bool:
    """One offer with its answer; whether there was one."""
    words = data.draw(descriptions(), label="offer")
    offer = SessionDescription.parse(written(words, player.hosts[by]))
    try:
        if player.begun:
            player.got[by.other] = player.media.offer(by, written(words, player.hosts[by]), player.barred)
        else:
            player.media.first_offer(written(words, player.hosts[by]), player.barred)
            player.got[by.other] = player.media.forward_offer(by, written(words, player.hosts[by]), player.barred)
    except SessionRefused:
        return False
    player.begun = True
    forwarded = told(player, by.other)
    assert [stream.kind for stream in forwarded.media] == [stream.kind for stream in offer.media]
    reply = data.draw(answers(forwarded), label="answer")
    answer = SessionDescription.parse(written(reply, player.hosts[by.other]))
    player.got[by], _ = player.media.carry(
        by.other, written(reply, player.hosts[by.other]), player.barred, may_offer=False
    )
    check_agreement(player, by, offer, forwarded, answer, told(player, by))
    return True


def check_agreement(
    player: Player,
    by: Side,
    offer: SessionDescription,
    forwarded: SessionDescription,
    answer: SessionDescription,
    got: SessionDescription,
) -> None:
    live: dict[str, int] = {}
    for asked, said, replied, heard in zip(offer.media, forwarded.media, answer.media, got.media, strict=True):
        assert bool(heard.port) == bool(replied.port), "both sides agree which streams live"
        assert not heard.port or (asked.port and said.port)
        assert heard.kind == asked.kind
        assert heard.proto == asked.proto or not heard.port
        assert not (heard.rtcp_mux and not (asked.rtcp_mux and replied.rtcp_mux))
        if heard.port:
            live[heard.kind] = replied.port
            assert heard.direction not in SENDS or said.direction in RECEIVES
            assert heard.direction not in RECEIVES or said.direction in SENDS
    for (side, media), endpoint in player.media.applied.items():
        kind = {1: "audio", 2: "video"}[media]
        assert bool(endpoint.port) == (kind in live), "the relay knows the streams that live, and no other"
        if endpoint.port and side == by.other:
            assert endpoint.port == live[kind]
        assert not (endpoint.held and (endpoint.rtcp_port or endpoint.direction.name.lower() in RECEIVES))


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_any_offer_and_any_lawful_answer(data: st.DataObject) -> None:
    player = Player()
    by = Side.CALLER
    for _ in range(data.draw(st.integers(1, 4), label="exchanges")):
        if exchange(player, data, by):
            by = data.draw(st.sampled_from(list(Side)), label="next by")


@settings(deadline=None, max_examples=150)
@given(descriptions(), descriptions())
def test_any_answer_at_all_is_made_lawful_or_refused(offer: str, answer: str) -> None:
    player = Player()
    try:
        player.media.first_offer(written(offer, player.hosts[Side.CALLER]), player.barred)
        player.got[Side.CALLEE] = player.media.forward_offer(
            Side.CALLER, written(offer, player.hosts[Side.CALLER]), player.barred
        )
        forwarded = told(player, Side.CALLEE)
        player.got[Side.CALLER], _ = player.media.carry(
            Side.CALLEE, written(answer, player.hosts[Side.CALLEE]), player.barred, may_offer=False
        )
    except SessionRefused:
        return
    got = told(player, Side.CALLER)
    assert [stream.kind for stream in got.media] == [stream.kind for stream in forwarded.media]
    assert all(said.port or not heard.port for said, heard in zip(forwarded.media, got.media, strict=True))
