"""Phones behind NATs: pinged, judged, told of; each by one replica."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from pbx_signaling.users import keepalive as module
from pbx_signaling.users.keepalive import Finding, KeepAlive, takes_over
from pbx_sip.address import Flow, HostPort, Transport
from pbx_sip.message.message import Request, Response, response_to
from pbx_sip.message.parse import parse
from pbx_sip.message.serialize import serialize
from pbx_sip.tokens import CountingTokens
from pbx_sip.transaction.deadlines import Deadlines

NAT = Flow(Transport.UDP, HostPort("198.51.100.7", 31_000), "udp4")
AOR, CONTACT = "1004@pbx.local", "sip:1004@192.168.1.10:5060;line=1"


@dataclass
class Street:
    """A clock, a wire, and what the registrar was told; phones answer by `answers`."""

    interval_s: float = 30.0
    everybody: bool = False
    now: float = 100.0
    answers: Callable[[Request], Response | None] = lambda request: response_to(request, 200, "", "phone")
    round_trip_s: float = 0.03
    pings: list[tuple[float, Request, Flow]] = field(default_factory=list)
    told: list[Finding] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tokens = CountingTokens("s1")
        self.deadlines = Deadlines()
        self.keep = KeepAlive(
            self,
            "pbx.local",
            self.told.append,
            lambda: 0.5,
            instance="s1",
            interval_s=self.interval_s,
            everybody=self.everybody,
        )
        self.via, self.tag = (lambda flow: f"SIP/2.0/UDP pbx;branch={self.tokens.branch()}"), self.tokens.tag
        self.sip_call_id = self.tokens.call_id

    def schedule(self, leg: object, at: float, what: int) -> object:
        return self.deadlines.schedule(at, leg, what)

    def unschedule(self, handle: object) -> None:
        assert isinstance(handle, int)
        self.deadlines.cancel(handle)

    def transmit(self, request: Request, flow: Flow) -> None:
        message = parse(serialize(request))
        assert isinstance(message, Request)
        self.pings.append((self.now, message, flow))
        answer = self.answers(message)
        if answer is not None:
            self.deadlines.schedule(self.now + self.round_trip_s, answer, 0)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while (due := self.deadlines.next_timeout) is not None and due <= end:
            self.now = due
            for owner, what in self.deadlines.expire(due):
                if isinstance(owner, Response):
                    assert self.keep.stray(None, owner)
                else:
                    owner.user.expired(owner, what)
        self.now = end

    def register(self, lasts_s: float = 3600.0, flow: Flow = NAT, aor: str = AOR) -> None:
        self.keep.registered(aor, flow, CONTACT, self.now + lasts_s)


@pytest.mark.parametrize(
    ("flow", "contact", "path", "nat", "everybody"),
    [
        (NAT, CONTACT, (), True, True),
        (NAT, "sip:1004@198.51.100.7:5060", (), False, True),
        (NAT, "sip:1004@phone.invalid", (), True, True),
        (NAT, "<nonsense", (), False, True),
        (NAT, CONTACT, ("<sip:edge;lr>",), False, False),
        (Flow(Transport.TCP, NAT.remote, "tcp4", 7), CONTACT, (), False, False),
    ],
)
def test_which_bindings_are_kept(flow: Flow, contact: str, path: tuple[str, ...], nat: bool, everybody: bool) -> None:
    assert Street().keep.keeps(flow, contact, path) is nat
    assert Street(everybody=True).keep.keeps(flow, contact, path) is everybody
    assert not Street(interval_s=0, everybody=True).keep.keeps(flow, contact, path)


def test_a_phone_is_pinged_within_each_interval_down_its_flow_and_told_of_once() -> None:
    street = Street()
    street.register()
    street.run(301)
    times = [at for at, _, _ in street.pings]
    assert times[0] - 100.0 < 3.1
    assert all(0 < later - earlier <= 30.1 for earlier, later in itertools.pairwise(times))
    assert len(times) >= 10
    for _, request, flow in street.pings:
        assert (request.method, request.uri, flow) == ("OPTIONS", CONTACT, NAT)
    assert len({request.call_id for _, request, _ in street.pings}) == 1
    assert [request.cseq_number for _, request, _ in street.pings] == list(range(1, len(times) + 1))
    first, *confirmations = street.told
    assert (first.aor, first.flow, first.instance, first.reachable) == (AOR, NAT, "s1", True)
    assert first.round_trip_s == pytest.approx(0.03, abs=0.03)
    assert len(confirmations) <= 1, "told when it changes, and confirmed now and then"
    assert street.keep.states() == {"reachable": 1, "unreachable": 0, "unknown": 0}


@pytest.mark.parametrize("status", [200, 404, 405, 481, 500])
def test_any_answer_says_that_the_phone_is_there(status: int) -> None:
    street = Street()
    street.answers = lambda request: response_to(request, status, "", "x")
    street.register()
    street.run(60)
    assert street.keep.states()["reachable"] == 1


def test_a_phone_that_stops_answering_is_unreachable_within_seconds_of_the_next_ping_and_back_at_once() -> None:
    street = Street()
    street.register()
    street.run(10)
    right, street.answers = street.answers, lambda request: None
    street.run(31 + module.TRIES * module.ANSWER_S)
    assert [finding.reachable for finding in street.told] == [True, False]
    before = len(street.pings)
    street.run(300)
    assert len(street.pings) - before <= 12, "one ping in an interval keeps its NAT open, in case"
    assert [finding.reachable for finding in street.told if not finding.reachable][1:] in ([], [False])
    street.answers = right
    street.run(31)
    assert street.told[-1].reachable


def test_nothing_is_said_of_a_phone_that_never_answers() -> None:
    street = Street()
    street.answers = lambda request: None
    street.register()
    street.run(250)
    assert not street.told
    assert len(street.pings) >= 8, "its NAT is kept open all the same"
    assert street.keep.states()["unknown"] == 1


def test_a_register_is_as_good_as_an_answer() -> None:
    street = Street()
    street.register()
    street.run(10)
    street.answers = lambda request: None
    street.run(40)
    assert street.keep.states()["unreachable"] == 1
    street.register()
    assert street.keep.states()["reachable"] == 1


def test_what_ran_out_or_was_removed_is_not_pinged() -> None:
    street = Street()
    street.register(lasts_s=50)
    street.register(lasts_s=3600, aor="1005@pbx.local")
    street.run(100)
    pings = len(street.pings)
    assert pings >= 3, "another user of the same phone is still there"
    street.keep.unregistered("1005@pbx.local", NAT)
    assert len(street.keep) == 0
    street.run(100)
    assert len(street.pings) == pings
    assert street.deadlines.next_timeout is None
    street.register(lasts_s=40)
    street.run(200)
    assert len(street.keep) == 0


def test_a_round_trip_is_told_anew_where_it_changed_much() -> None:
    street = Street()
    street.register()
    street.run(10)
    for street.round_trip_s in (0.04, 0.05, 0.3, 0.28, 0.02):
        street.run(30)
    told = [round(finding.round_trip_s, 2) for finding in street.told]
    assert len(told) == 3
    assert told[1] > 0.25 > 0.05 > told[2]
    assert sum(street.keep.tally.round_trips) == street.keep.tally.answers


def test_flows_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_MAX", 3)
    street = Street()
    for port in range(5):
        street.register(flow=NAT._replace(remote=HostPort("198.51.100.7", port + 1)))
    assert (len(street.keep), street.keep.tally.refused) == (3, 2)


def test_a_stray_answer_is_none_of_it() -> None:
    street = Street()
    street.register()
    street.run(10)
    assert not street.keep.stray(None, Response(200, "", response_to(street.pings[0][1], 200).headers))


def test_of_the_replicas_one_takes_over_what_another_left() -> None:
    replicas = {"s1", "s2", "s3"}
    owners = dict.fromkeys(replicas, 0)
    for number in range(300):
        aor = f"{number}@pbx.local"
        takers = [each for each in replicas if takes_over(aor, "s9", each, replicas - {each})]
        assert len(takers) == 1
        owners[takers[0]] += 1
    assert min(owners.values()) > 50
    assert takes_over(AOR, "s1", "s1", {"s2"})
    assert not takes_over(AOR, "s2", "s1", {"s2"})


def test_what_was_taken_over_is_given_back_when_its_instance_lives_again() -> None:
    street = Street()
    street.keep.registered(AOR, NAT, CONTACT, street.now + 3600, "s2")
    street.register(flow=NAT._replace(remote=HostPort("198.51.100.8", 1)))
    street.run(5)
    assert {finding.instance for finding in street.told} == {"s1", "s2"}
    street.keep.came_back({"s2", "s3"})
    assert len(street.keep) == 1
