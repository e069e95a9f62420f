"""Processes that share an address: whose a message is, who is asked about a CANCEL, and who leaves."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from pbx_signaling.replicas.board import OCTETS, Board
from pbx_signaling.replicas.frame import NOWHERE, Frame, Word, decode, encode
from pbx_signaling.replicas.peering import Carriage, Peering, at
from pbx_signaling.replicas.switch import Switch, names_owner
from pbx_signaling.router.addressing import Addressing, Listener
from pbx_sip.address import Flow, HostPort, Transport

UDP = Flow(Transport.UDP, HostPort("192.0.2.1", 5060), "udp4")
TCP = Flow(Transport.TCP, HostPort("192.0.2.1", 40_000), "tcp4", 7)
FAMILY = ("abcd00", "abcd01", "abcd02")
CANCEL = b"CANCEL sip:2000@x SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKphone\r\nTo: <sip:2000@x>\r\n\r\n"
INVITE = CANCEL.replace(b"CANCEL", b"INVITE")


@dataclass
class House:
    """Processes with a switch each, joined without sockets; what is put on its way arrives at once."""

    invites: dict[str, set[bytes]] = field(default_factory=dict)
    """Instance to the CANCELs whose INVITE it has."""
    received: list[tuple[str, bytes, Flow]] = field(default_factory=list)
    put: list[Frame] = field(default_factory=list)
    switches: dict[str, Switch] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    is_poor: bool = False
    proxies: tuple[Flow, ...] = ()
    boards: dict[str, Board] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in FAMILY:
            end = End(self, name)
            addressing = Addressing(name, family=FAMILY)
            addressing.add(Listener("udp4", Transport.UDP, HostPort("192.0.2.9", 5060)))
            addressing.add(Listener("tcp4", Transport.TCP, HostPort("192.0.2.9", 5060)))
            self.switches[name] = Switch(
                Peering(name, end, siblings=frozenset(FAMILY) - {name}),
                end,
                receive=end.receive,
                take=addressing.take,
                knows=lambda data, flow, name=name: data in self.invites.get(name, ()),  # type: ignore[misc]
                budget=lambda flow: not self.is_poor,
                spreads=lambda flow: flow in self.proxies,
                notes=self.boards.get(name),
            )

    def come(self, name: str, data: bytes, flow: Flow = UDP) -> list[tuple[str, bytes, Flow]]:
        """A message comes to a process; who took it in."""
        self.received.clear()
        self.put.clear()
        self.switches[name].received(data, flow)
        return self.received


@dataclass
class End:
    house: House
    name: str

    def receive(self, data: bytes, flow: Flow) -> None:
        self.house.received.append((self.name, data, flow))

    def put(self, instance: str, frame: Frame) -> None:
        self.house.put.append(frame)
        if instance in self.house.gone:
            self.house.switches[self.name].peering.lost(instance)
            return
        (again,) = decode(encode(frame))
        left = self.house.switches[instance].came(again)
        assert left is None or frame.word in (Word.SEND, Word.BROKEN)

    def carry(self, instance: str, carriage: Carriage, data: bytes, flow: Flow) -> None:
        self.put(instance, Frame(Word(carriage), self.name, flow, data))


def response(instance: str) -> bytes:
    via = f"SIP/2.0/UDP 192.0.2.9:5060;rport;branch=z9hG4bK{instance}.0123456789abcdef"
    return f"SIP/2.0 200 OK\r\nVia: {via}\r\nTo: <sip:x@y>;tag=theirs\r\n\r\n".encode()


def bye(instance: str) -> bytes:
    to = f"<sip:x@y>;tag={instance}.0123456789abcdef"
    return f"BYE sip:{instance}@192.0.2.9 SIP/2.0\r\nVia: v\r\nTo: {to}\r\n\r\n".encode()


@pytest.mark.parametrize("make", [response, bye])
def test_what_names_another_process_is_taken_in_there_and_answered_from_there(make) -> None:  # type: ignore[no-untyped-def]
    house = House()
    for name in FAMILY:
        for owner in FAMILY:
            assert house.come(name, make(owner)) == [(owner, make(owner), UDP)]
            expected = TCP if owner == name else at(name, TCP)
            assert house.come(name, make(owner), TCP) == [(owner, make(owner), expected)]
    assert [house.switches[name].misdirected for name in FAMILY] == [4, 4, 4]


@pytest.mark.parametrize("data", [response("other1"), bye("abcd99"), INVITE, b"garbage", b"SIP/2.0 200 OK\r\n\r\n"])
def test_what_names_none_of_them_stays(data: bytes) -> None:
    house = House()
    assert house.come("abcd01", data) == [("abcd01", data, UDP)]


def test_of_one_alone_nothing_is_looked_at() -> None:
    house = House()
    house.switches["abcd00"].peering.siblings = frozenset()
    assert house.come("abcd00", response("abcd01")) == [("abcd00", response("abcd01"), UDP)]


def test_a_message_that_names_two_goes_round_no_circle() -> None:
    """Its octets name one process where they are searched, and another where they are read: a peer can write that."""
    house = House()
    for name in FAMILY:
        switch = house.switches[name]
        seen = []
        switch.receive = lambda data, flow, switch=switch, seen=seen: seen.append(switch.peering.is_carried)  # type: ignore[misc]
    house.switches["abcd00"].received(response("abcd01"), UDP)
    assert seen == [] or all(seen)
    assert not house.switches["abcd01"].peering.is_carried, "over with the message"


def with_boards() -> House:
    memory = memoryview(bytearray(OCTETS))
    return House(boards={name: Board(memory, index, FAMILY) for index, name in enumerate(FAMILY)})


def test_a_repeated_invite_and_its_cancel_reach_the_process_of_the_first_from_wherever_they_come() -> None:
    house = with_boards()
    assert house.come("abcd01", INVITE) == [("abcd01", INVITE, UDP)]
    for data in (INVITE, CANCEL):
        for name in FAMILY:
            assert house.come(name, data) == [("abcd01", data, UDP)]
            assert not [frame for frame in house.put if frame.word is Word.ASKED], "nobody needs to be asked"
    other = INVITE.replace(b"z9hG4bKphone", b"z9hG4bKother")
    assert house.come("abcd02", other) == [("abcd02", other, UDP)]


def test_who_takes_an_invite_for_one_that_leaves_is_noted() -> None:
    house = with_boards()
    house.switches["abcd02"].is_leaving = True
    assert house.come("abcd02", INVITE) == [("abcd00", INVITE, UDP)]
    house.switches["abcd02"].is_leaving = False  # as the process that was started in its place
    assert house.come("abcd02", INVITE) == [("abcd00", INVITE, UDP)]
    assert house.come("abcd02", CANCEL) == [("abcd00", CANCEL, UDP)]


@pytest.mark.parametrize("house", [House(proxies=(UDP, TCP)), with_boards()], ids=["alone", "noted"])
def test_calls_of_a_peer_that_speaks_for_many_are_shared_out(house: House) -> None:
    house.proxies = (UDP, TCP)
    invites = [INVITE.replace(b"phone", b"%d" % n)[:-2] + b"Call-ID: call-%d\r\n\r\n" % n for n in range(60)]
    took = [house.come("abcd00", data)[0][0] for data in invites]
    assert {took.count(name) for name in FAMILY} <= set(range(12, 30)), "evenly"
    again = [data.replace(b"z9hG4bK", b"z9hG4bKagain") for data in invites]
    assert [house.come("abcd01", data, TCP)[0][0] for data in again] == took, "with credentials: the same Call-ID"
    house.switches["abcd02"].is_leaving = True
    fresh = [data.replace(b"z9hG4bK", b"z9hG4bKfresh") for data in invites]
    assert "abcd02" not in {house.come("abcd02", data)[0][0] for data in fresh}
    assert house.come("abcd00", INVITE.replace(b"phone", b"no Call-ID"))[0][0] == "abcd00"


def test_an_invite_of_a_process_that_is_gone_is_a_new_one() -> None:
    house = with_boards()
    house.come("abcd01", INVITE)
    house.gone.add("abcd01")
    assert house.come("abcd00", INVITE) == [], "lost on the way: it is not known yet, and the phone repeats it"
    assert house.come("abcd00", INVITE) == [("abcd00", INVITE, UDP)]


@pytest.mark.parametrize("flow", [UDP, TCP])
@pytest.mark.parametrize("owner", FAMILY)
@pytest.mark.parametrize("name", FAMILY)
def test_a_cancel_finds_its_invite_wherever_that_is(name: str, owner: str, flow: Flow) -> None:
    house = House(invites={owner: {CANCEL}})
    ((taken_by, data, back),) = house.come(name, CANCEL, flow)
    assert (taken_by, data) == (owner, CANCEL)
    assert back == (flow if flow is UDP or owner == name else at(name, flow)), "the answer goes back where it came from"


def test_a_cancel_of_nothing_is_taken_in_by_one_after_all_were_asked() -> None:
    house = House()
    for index, name in enumerate(FAMILY):
        ((taken_by, _, _),) = house.come(name, CANCEL)
        assert taken_by == FAMILY[index - 1], "the last of the circle"
        assert len(house.put) == 2


def test_a_source_without_budget_has_nobody_asked() -> None:
    house = House(invites={"abcd01": {CANCEL}}, is_poor=True)
    assert [taken for taken, _, _ in house.come("abcd00", CANCEL)] == ["abcd00"]
    assert not house.put


def test_a_circle_without_the_asker_ends() -> None:
    house = House()
    for name in FAMILY[1:]:
        house.switches[name].peering.lost("abcd00")
    for asker in ("abcd00", "abcd05", "aaaa00"):
        house.received.clear()
        frame = Frame(Word.ASKED, "abcd01", UDP, CANCEL, asker)
        house.switches["abcd01"].came(frame)
        for name in FAMILY[1:]:
            house.switches[name].peering.siblings -= {asker}
        assert len(house.received) == 1


def test_a_process_that_leaves_gives_new_things_to_the_next_and_keeps_its_own() -> None:
    house = House()
    house.switches["abcd02"].is_leaving = True
    assert house.come("abcd02", INVITE) == [("abcd00", INVITE, UDP)]
    assert house.come("abcd02", INVITE, TCP) == [("abcd02", INVITE, TCP)], "its connection ends with it"
    for own in (response("abcd02"), bye("abcd02"), b"ACK sip:x@y SIP/2.0\r\n\r\n", b"SIP/2.0 100 Trying\r\n\r\n"):
        assert house.come("abcd02", own) == [("abcd02", own, UDP)]
    for name in FAMILY:
        house.switches[name].is_leaving = True
    assert len(house.come("abcd02", INVITE)) == 1, "where all leave it goes no further than to one"


def test_who_is_gone_is_not_given_anything_until_it_says_hello() -> None:
    house = House(gone={"abcd01"})
    assert house.come("abcd00", response("abcd01")) == []
    peering = house.switches["abcd00"].peering
    assert set(peering.alive) == {"abcd02"}
    assert house.come("abcd00", response("abcd01")) == [("abcd00", response("abcd01"), UDP)]
    peering.leased(frozenset({"abcd02", "other1"}))
    assert set(peering.alive) == {"abcd02", "other1"}
    house.gone.clear()
    End(house, "abcd01").put("abcd00", Frame(Word.HELLO, "abcd01", NOWHERE))
    assert house.come("abcd00", response("abcd01")) == [("abcd01", response("abcd01"), UDP)]


def test_siblings_need_no_lease() -> None:
    peering = House().switches["abcd00"].peering
    assert set(peering.alive) == {"abcd01", "abcd02"}
    peering.leased(frozenset())
    assert set(peering.alive) == {"abcd01", "abcd02"}


@pytest.mark.parametrize(
    ("data", "owner"),
    [
        (response("abcd01"), "abcd01"),
        (bye("abcd01"), "abcd01"),
        (bye("abcd01").replace(b"To: ", b"t:"), "abcd01"),
        (bye("abcd01").replace(b"To: ", b"TO :\t"), "abcd01"),
        (bye("abcd01").replace(b";tag", b" ; tag"), "abcd01"),
        (bye("abcd01").replace(b"To: ", b"X-To: "), ""),
        (bye("abcd01").replace(b"Via: v", b"Via: v;branch=z9hG4bKabcd02.1"), "abcd01"),
        (response("abcd01").replace(b"tag=theirs", b"tag=abcd02.1"), "abcd01"),
        (INVITE, ""),
        (b"SIP/2.0 200 OK\r\nX: " + b"x" * 2048 + response("abcd01"), ""),
        (b"", ""),
    ],
)
def test_whom_octets_name(data: bytes, owner: str) -> None:
    assert names_owner(data) == owner


def test_frames_read_as_they_were_written() -> None:
    far = Flow(Transport.WSS, HostPort("2001:db8::1", 65_535), "wss6", 1 << 60)
    frames = [
        Frame(Word.SEND, "abcd00", TCP, b"x" * 60_000),
        Frame(Word.ASKED, "abcd01", far, b"", "abcd00"),
        Frame(Word.HELLO, "abcd02", NOWHERE),
    ]
    octets = b"".join(map(encode, frames))
    assert list(decode(octets)) == frames
    for cut in (1, 5, 100, len(octets) - 1):
        with pytest.raises(ValueError, match=r"octets"):
            list(decode(octets[:cut]))
    with pytest.raises(ValueError, match="version 9"):
        list(decode(b"\x09" + octets[1:]))
    with pytest.raises(ValueError, match="SEND for"):
        encode(Frame(Word.SEND, "abcd00", TCP._replace(listener="x" * 256)))
