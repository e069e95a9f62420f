"""The media of a call that rings at several phones: an exchange for each, one slot, one that the relay follows."""

from __future__ import annotations

import pytest

from pbx_runtime.media_address import Barred
from pbx_signaling.calls.signals import Side
from pbx_signaling.media.branches import CallMedia
from pbx_signaling.media.endpoint import SessionRefused
from pbx_signaling.media.session import MediaSession
from pbx_signaling.media.stream import Slot
from support.offer_answer import HOST4, PORTS, endpoints, read, written

ALICE, BARRED = "192.0.2.10", Barred()
PHONES = {1: "192.0.2.21", 2: "192.0.2.22", 3: "192.0.2.23"}


def begun(offer: str = "audio:4000", phones: int = 2) -> tuple[CallMedia, dict[int, bytes]]:
    """A call that rings at so many phones, and what each of them got."""
    media = CallMedia(MediaSession(7, Slot("r1", 3750, HOST4, "", PORTS)))
    media.place(Side.CALLER, ALICE)
    data = written(offer, ALICE) if offer else None
    if data is not None:
        media.first_offer(data, BARRED)
    got = {leg: media.invite(leg, PHONES[leg], data, BARRED) for leg in range(1, phones + 1)}
    return media, {leg: body for leg, body in got.items() if body is not None}


def early(media: CallMedia, leg: int, words: str, fork: str = "b1") -> str:
    """What the relay is told of a phone's provisional answer."""
    data = written(words, PHONES[leg])
    _, told = media.carry(leg, Side.CALLEE, data, BARRED, provisional=True, may_offer=False, fork=fork)
    return endpoints(told)


def answer(media: CallMedia, leg: int, words: str) -> str:
    """What the relay is told of a phone's answer with a description, and of its being the one."""
    data = written(words, PHONES[leg])
    _, told = media.carry(leg, Side.CALLEE, data, BARRED, provisional=False, may_offer=False, fork="b1")
    return endpoints([*told, *media.choose(leg, "b1", settles=False)])


def test_each_phone_gets_the_same_offer_as_a_session_of_its_own() -> None:
    _, got = begun()
    assert {read(body, Side.CALLEE) for body in got.values()} == {"audio:A"}
    assert len({body.splitlines()[1] for body in got.values()}) == 2, "o= tells them apart"


def test_the_relay_follows_the_one_that_spoke_last() -> None:
    media, _ = begun()
    assert early(media, 1, "audio:4100") == "bob.A 192.0.2.21:4100 sendrecv"
    assert early(media, 2, "audio:4200") == "bob.A 192.0.2.22:4200 sendrecv"
    assert early(media, 1, "audio:4100") == "nothing", "a repetition is no news"
    assert early(media, 1, "audio:4102") == "bob.A 192.0.2.21:4102 sendrecv"


def test_it_turns_to_another_where_the_one_it_follows_is_out() -> None:
    media, _ = begun()
    early(media, 1, "audio:4100")
    early(media, 2, "audio:4200")
    assert endpoints(media.drop(2)) == "bob.A 192.0.2.21:4100 sendrecv"
    assert endpoints(media.drop(1)) == "nothing", "nobody is left to turn to"


def test_one_that_it_does_not_follow_may_go() -> None:
    media, _ = begun()
    early(media, 1, "audio:4100")
    assert endpoints(media.drop(2)) == "nothing"
    assert media.followed == 1


def test_who_answers_is_followed_with_a_description_or_without() -> None:
    for settles in (True, False):
        media, _ = begun()
        early(media, 1, "audio:4100")
        early(media, 2, "audio:4200")
        told = endpoints(media.choose(1, "b1", settles=True)) if settles else answer(media, 1, "audio:4100")
        assert told == "bob.A 192.0.2.21:4100 sendrecv", "though the relay was told of it before"
        assert list(media.legs) == [1]
        assert not media.known


def test_what_only_another_phone_took_is_declined() -> None:
    media, _ = begun("audio:4000 | video:4002")
    early(media, 2, "audio:4200 | video:4202")
    assert answer(media, 1, "audio:4100 | video:0") == ("alice.V off, bob.A 192.0.2.21:4100 sendrecv, bob.V off")


def test_rtcp_on_one_port_with_one_phone_is_not_so_with_another() -> None:
    media, _ = begun("audio:4000 mux")
    assert early(media, 1, "audio:4100 mux") == (
        "alice.A 192.0.2.10:4000 sendrecv mux, bob.A 192.0.2.21:4100 sendrecv mux"
    )
    assert answer(media, 2, "audio:4200") == "alice.A 192.0.2.10:4000 sendrecv, bob.A 192.0.2.22:4200 sendrecv"


def test_an_offer_of_one_phone_is_no_glare_for_another() -> None:
    media, _ = begun("")
    for leg in (1, 2):
        data, told = media.carry(
            leg, Side.CALLEE, written("audio:4100", PHONES[leg]), BARRED, provisional=True, may_offer=True, fork="b1"
        )
        assert read(data, Side.CALLER) == "audio:A"
        assert not told
    media.choose(2, "b1", settles=False)
    answered, told = media.carry(
        2, Side.CALLER, written("audio:4000", ALICE), BARRED, provisional=False, may_offer=False, fork=""
    )
    assert read(answered, Side.CALLEE) == "audio:A"
    assert endpoints(told) == "alice.A 192.0.2.10:4000 sendrecv, bob.A 192.0.2.22:4100 sendrecv"


def test_an_early_change_with_one_phone_does_not_concern_another() -> None:
    media, _ = begun()
    early(media, 1, "audio:4100")
    media.legs[1].offer(Side.CALLER, written("audio:4000 sendonly", ALICE), BARRED)
    with pytest.raises(SessionRefused, match="under way"):
        media.legs[1].offer(Side.CALLEE, written("audio:4100", PHONES[1]), BARRED)
    assert answer(media, 2, "audio:4200") == "bob.A 192.0.2.22:4200 sendrecv"


def test_after_the_answer_changes_are_told_as_before() -> None:
    media, _ = begun(phones=1)
    answer(media, 1, "audio:4100")
    media.legs[1].offer(Side.CALLER, written("audio:4002", ALICE), BARRED)
    _, told = media.carry(
        1, Side.CALLEE, written("audio:4100", PHONES[1]), BARRED, provisional=False, may_offer=False, fork=""
    )
    assert endpoints(told) == "alice.A 192.0.2.10:4002 sendrecv, bob.A 192.0.2.21:4100 sendrecv"
    assert not media.known, "nothing is kept twice"


def test_another_slot_is_that_of_every_phone() -> None:
    media, _ = begun()
    slot = Slot("r2", 1, HOST4, "", PORTS)
    media.slot = slot
    assert all(session.slot is slot for session in (media.offer, *media.legs.values()))


def test_codecs_are_those_of_the_phone_that_is_followed() -> None:
    media, _ = begun()
    assert media.codec_of(Side.CALLEE) == ""
    early(media, 2, "audio:4200 fmt=8")
    assert (media.codec_of(Side.CALLER), media.codec_of(Side.CALLEE)) == ("PCMU/8000", "PCMA/8000")
