"""REGISTER and its connection: what is noted, what a broken one takes with it, the race between the two; 439."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from pbx_signaling.border.challenge import Challenges
from pbx_signaling.border.trust import Trust
from pbx_signaling.config import CoreConfig
from pbx_signaling.counters import Counters
from pbx_signaling.domains import Domains
from pbx_signaling.users.questions import CurrentBinding, Register, Registered
from pbx_signaling.users.registrations import Registrations, RegistrationsNeed
from pbx_signaling.users.step import Ask
from pbx_sip.address import Flow, HostPort, Transport
from pbx_sip.auth.nonce import NonceMinter
from pbx_sip.message.message import Request, Response
from support.sip_messages import request

TCP = Flow(Transport.TCP, HostPort("192.0.2.1", 40_000), "tcp4", 7)
UDP = Flow(Transport.UDP, HostPort("192.0.2.1", 5060), "udp4")
AOR = "1004@pbx.local"
GRANTED = Registered(200, bindings=[CurrentBinding("sip:1004@192.0.2.1", 1000, 600)])


@dataclass
class FakeSip:
    now: float = 0.0
    responses: list[Response] = field(default_factory=list)
    wall_s: float = 0.0

    def can_reach(self, uri: str, flow: Flow) -> bool:
        return f"@{flow.remote.host}" in uri and flow.transport is not Transport.WS

    def respond(self, key: object, response: Response) -> None:
        self.responses.append(response)

    def tag(self) -> str:
        return "t"


@dataclass
class Bench:
    sip: FakeSip = field(default_factory=FakeSip)
    counters: Counters = field(default_factory=Counters)
    removed: list[tuple[str, Flow]] = field(default_factory=list)
    asked: list[Ask] = field(default_factory=list)

    def __post_init__(self) -> None:
        config = CoreConfig("pbx.local", registrations_pending_max=2, proxies=Trust(["203.0.113.0/24"]))
        self.registration = Registrations(
            RegistrationsNeed(
                config=config,
                sip=cast("Any", self.sip),
                steps=cast("Any", self),
                challenges=Challenges(config, NonceMinter(b"0123456789abcdef", os.urandom)),
                domains=Domains("pbx.local"),
                counters=self.counters,
                proved=lambda source, now: None,
                unregister=lambda aor, flow: self.removed.append((aor, flow)),
            )
        )

    def ask(self, ask: Ask) -> None:
        """Stands for the steps."""
        self.asked.append(ask)

    @property
    def asks(self) -> list[Register]:
        return [ask.question for ask in self.asked if isinstance(ask.question, Register)]

    def broken(self, flow: Flow, now: float) -> None:
        self.sip.now = now
        self.registration.broken(flow)

    def register(self, flow: Flow = TCP, *extra: tuple[str, str], contact: str = "<sip:1004@192.0.2.1>") -> None:
        message = register_of(("Contact", contact), *extra)
        self.registration.request(KEY, message, flow)

    def answer(self, answer: Registered = GRANTED, now: float = 0.0) -> Response:
        self.sip.now = now
        self.registration.answered(self.asked[-1].number, answer)
        return self.sip.responses[-1]


KEY = ("z9hG4bK1", "REGISTER", "192.0.2.1")


def register_of(*extra: tuple[str, str]) -> Request:
    made = request("REGISTER", uri="sip:pbx.local", extra=extra)
    made.headers.set("To", f"<sip:{AOR}>")
    return made


NATTED = "<sip:1004@10.0.0.1>"


def test_a_broken_connection_takes_the_binding_with_it() -> None:
    bench = Bench()
    bench.register(contact=NATTED)
    assert bench.answer().status == 200
    assert bench.registration.flows.holds(TCP, 599.0)
    bench.broken(TCP, 1.0)
    bench.broken(TCP, 1.0)
    assert bench.removed == [(AOR, TCP)]


@pytest.mark.parametrize(
    ("flow", "contacts", "outbound", "stays"),
    [
        (TCP, "<sip:1004@192.0.2.1:5070;transport=tcp>", False, True),
        (TCP, "<sip:1004@192.0.2.1:5070;transport=tcp>", True, False),  # RFC 5626: the binding is the flow
        (TCP, NATTED, False, False),
        (TCP, f"<sip:1004@192.0.2.1>, {NATTED}", False, False),
        (TCP, f"<sip:1004@192.0.2.1>, {NATTED};expires=0", False, True),
        (TCP._replace(transport=Transport.WS), "<sip:1004@192.0.2.1;transport=ws>", False, False),
    ],
)
def test_a_binding_stays_that_another_connection_can_reach(
    flow: Flow, contacts: str, outbound: bool, stays: bool
) -> None:
    bench = Bench()
    bench.register(flow, contact=contacts)
    bench.answer(Registered(200, bindings=GRANTED.bindings, outbound=outbound))
    assert bench.registration.flows.holds(flow, 1.0)
    bench.broken(flow, 1.0)
    bench.register(flow, contact=contacts)
    bench.broken(flow, 2.0)  # while the registrar is asked
    bench.answer(Registered(200, bindings=GRANTED.bindings, outbound=outbound), 2.0)
    assert bench.removed == ([] if stays else [(AOR, flow)] * 2)


@pytest.mark.parametrize(("source", "kept"), [("203.0.113.7", True), ("203.0.114.7", False)])
def test_path_is_kept_from_listed_proxies_alone(source: str, kept: bool) -> None:
    bench = Bench()
    bench.register(UDP._replace(remote=HostPort(source, 5060)), ("Path", "<sip:10.3.2.1;lr>, <sip:edge.example;lr>"))
    path = ["<sip:10.3.2.1;lr>", "<sip:edge.example;lr>"] if kept else []
    assert bench.asks[-1].path == path
    assert bench.answer().headers.all("Path") == path
    assert bench.counters.paths_ignored == (0 if kept else 1)


def test_a_connection_that_breaks_while_the_registrar_is_asked() -> None:
    bench = Bench()
    bench.register(contact=NATTED)
    bench.broken(TCP, 0.0)
    assert bench.removed == []
    bench.answer()
    assert bench.removed == [(AOR, TCP)]
    assert len(bench.registration.flows) == 0


def test_what_was_removed_refused_or_came_by_udp_is_not_noted() -> None:
    bench = Bench()
    bench.register()
    bench.answer(Registered(403))
    bench.register(UDP)
    bench.answer()
    assert len(bench.registration.flows) == 0
    bench.register()
    bench.answer()
    bench.register(contact="<sip:1004@192.0.2.1>;expires=0")
    bench.answer(Registered(200))
    bench.broken(TCP, 1.0)
    assert bench.removed == []


def test_a_query_changes_nothing() -> None:
    bench = Bench()
    bench.register()
    bench.answer()
    bench.registration.request(KEY, register_of(), TCP)
    bench.answer()
    assert bench.registration.flows.holds(TCP, 1.0)


FAR = ("Via", "SIP/2.0/UDP far;branch=z9hG4bKfar")
OUTBOUND = '<sip:1004@192.0.2.1>;+sip.instance="<urn:uuid:1>";reg-id=1'


@pytest.mark.parametrize(
    ("extra", "status"),
    [
        ((), 200),
        ((FAR,), 439),
        ((FAR, ("Path", "<sip:edge;lr>")), 439),
        ((FAR, ("Path", "<sip:edge;lr;obscure>")), 439),
        ((FAR, ("Path", "<sip:edge;lr;x=%3Bob>")), 439),
        ((FAR, ("Path", "<sip:token@edge;lr;ob>")), 200),
        ((FAR, ("Path", "<sip:mine;lr>, <sip:token@edge;ob;lr>")), 200),
    ],
)
def test_outbound_needs_a_first_hop_that_knows_it(extra: tuple[tuple[str, str], ...], status: int) -> None:
    bench = Bench()
    proxy = TCP._replace(remote=HostPort("203.0.113.7", 40_000))
    bench.register(proxy, ("Supported", "path, Outbound"), *extra, contact=OUTBOUND)
    if status == 200:
        answer = bench.answer(Registered(200, outbound=True))
        assert answer.first("Require") == "outbound"
        assert answer.first("Flow-Timer") == "120"
    assert bench.sip.responses[-1].status == status


@pytest.mark.parametrize("extra", [(), (FAR,), (FAR, ("Supported", "gruu, path")), (("Supported", "outbounds"),)])
def test_reg_id_means_nothing_without_the_option_tag(extra: tuple[tuple[str, str], ...]) -> None:
    """RFC 5626 section 6: else "the registrar MUST ignore the reg-id parameter"; snom and others send it always."""
    bench = Bench()
    bench.register(TCP, *extra, contact=OUTBOUND)
    asked = bench.asks[0].contacts[-1]
    assert (asked.reg_id, asked.sip_instance) == (0, "urn:uuid:1")
    assert "Require" not in bench.answer().headers


def test_the_answer_says_whose_the_bindings_are_and_what_time_it_is() -> None:
    bench = Bench()
    bench.sip.wall_s = 1_700_000_000.0
    bench.register(TCP, ("Supported", "outbound"), contact=OUTBOUND)
    bound = [CurrentBinding("sip:1004@192.0.2.1", 500, 600, "urn:uuid:1", 1), CurrentBinding("sip:x@y", 1000, 60)]
    answer = bench.answer(Registered(200, bindings=bound, outbound=True))
    assert answer.headers.all("Contact") == [
        '<sip:1004@192.0.2.1>;q=0.5;expires=600;+sip.instance="<urn:uuid:1>";reg-id=1',
        "<sip:x@y>;expires=60",
    ]
    assert answer.first("Date") == "Tue, 14 Nov 2023 22:13:20 GMT"


def test_parameters_of_a_contact_without_brackets_are_the_header_s() -> None:
    bench = Bench()
    bench.register(UDP, contact='sip:1004@192.0.2.1;+x="<a;b>";+sip.instance="<urn:gsma:imei:3>";expires = 77 ;q=0.25')
    asked = bench.asks[0].contacts[-1]
    assert (asked.uri, asked.sip_instance, asked.expires_s, asked.q_thousandths) == (
        *("sip:1004@192.0.2.1", "urn:gsma:imei:3"),
        *(77, 250),
    )


@pytest.mark.parametrize(
    ("text", "expires_s"),
    [("4294967295", 0xFFFFFFFF), ("99999999999", 0xFFFFFFFF), ("soon", 3600), ("-1", 3600), ("0", 0)],
)
def test_an_expires_that_is_large_or_no_number_removes_nothing(text: str, expires_s: int) -> None:
    """RFC 3261 section 20.19: up to 2**32-1, and what cannot be read means 3600."""
    bench = Bench()
    bench.register(UDP, ("Expires", text))
    assert {contact.expires_s for contact in bench.asks[0].contacts} == {expires_s}
