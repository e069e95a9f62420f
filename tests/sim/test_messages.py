"""MESSAGE outside of calls: the hunt, the filters, the statuses and the large-request rule of calls, and its events."""

from __future__ import annotations

import pytest

from pbx_signaling.calls import signals as e
from pbx_signaling.router.addressing import Listener
from pbx_signaling.users.messages import PATIENCE_S, TARGET_S
from pbx_signaling.users.told import Told
from pbx_sip.address import Flow, HostPort, Transport
from pbx_sip.message.message import Request, Response
from pbx_sip.message.serialize import serialize
from support.b2bua_node import B2buaNode
from support.bench_core import ALICE, BOB, PBX, Bench
from support.ladder import INVITE, reply
from support.sip_messages import request

DESK, MOBILE = HostPort("192.0.2.21", 5060), HostPort("192.0.2.22", 5060)


def binding(where: HostPort, user: str = "1008", *, uri: str = "", transport: int = 1, connection: int = 0) -> e.Target:
    """A phone of the recipient."""
    listener = f"{Transport(transport).name.lower()}4"
    uri = uri or f"sip:{user}@{where}"
    return e.Target(uri, f"{user}@pbx.local", (), transport, where.host, where.port, listener, connection, "s1")


class Sending:
    """A core whose registrar knows the bindings given, and what was told of its messages."""

    def __init__(self, *targets: e.Target, **others: list[e.Target]) -> None:
        self.bindings = {"1008": list(targets), **{user.lstrip("u"): found for user, found in others.items()}}
        self.bench = Bench(found_by_user=self.bindings)

    @property
    def told(self) -> list[Told]:
        return self.bench.told

    def send(self, body: bytes = b"hello", extra: str = "", *, uri: str = "", user: str = "1008") -> None:
        """Alice writes."""
        text = INVITE.format(branch="m1").replace("INVITE", "MESSAGE").replace("application/sdp", "text/plain")
        text = text.replace("sip:1008@192.0.2.1", uri or f"sip:{user}@192.0.2.1", 1)
        self.bench.send(text + (f"\n{extra}" if extra else ""), ALICE, body)

    def answer(self, where: HostPort, status: int, extra: str = "") -> Request:
        """A phone got the message, and answers it."""
        out = self.bench.request(where, "MESSAGE")
        self.bench.send(reply(out, status, extra=extra).replace("Contact: <sip:1008@192.0.2.20:5060>\n", ""), where)
        return out

    def events(self) -> list[tuple[str, int, str, int]]:
        return [(told.record.name, told.status, told.cause, told.tried) for told in self.told]

    def assert_clean(self) -> None:
        assert self.bench.core.messages.pending == 0
        self.bench.assert_clean()


def test_a_message_is_delivered_and_told_of() -> None:
    sending = Sending(binding(BOB))
    sending.send(b"hello", "Expires: 600\nDate: Mon, 30 Nov 2026 17:00:00 GMT\nSubject: lunch")
    out = sending.answer(BOB, 202)
    assert (out.first("Expires"), out.first("Subject")) == ("600", "lunch")
    assert out.first("Date") == "Mon, 30 Nov 2026 17:00:00 GMT"
    assert sending.bench.response(ALICE, 202)
    sent, delivered = sending.told
    assert (sent.sender, sent.recipient, sent.content_type, sent.octets) == ("1004", "1008@pbx.local", "text/plain", 5)
    assert (delivered.status, delivered.tried, delivered.message_id) == (202, 1, sent.message_id)
    sending.assert_clean()


@pytest.mark.parametrize(
    ("bindings", "status", "cause"),
    [
        ({}, 480, "not_registered"),
        ({"user": "1009"}, 404, "user_unknown"),
    ],
)
def test_nobody_is_there(bindings: dict[str, str], status: int, cause: str) -> None:
    sending = Sending()
    sending.send(**bindings)  # type: ignore[arg-type]  # a user, or nothing
    assert sending.bench.response(ALICE, status)
    assert sending.events() == [("SENT", 0, "", 0), ("FAILED", status, cause, 0)]
    sending.assert_clean()


def test_a_sips_message_goes_over_tls_or_not_at_all() -> None:
    sending = Sending(binding(BOB))
    sending.send(uri="sips:1008@192.0.2.1")
    assert not sending.bench.take(BOB)
    assert sending.bench.response(ALICE, 480)
    assert sending.events()[-1] == ("FAILED", 480, "no_secure_binding", 0)
    secure = binding(DESK, uri=f"sips:1008@{DESK}", transport=3, connection=7)
    sending = Sending(binding(BOB), binding(MOBILE, transport=3, connection=8), secure)
    sending.bench.addressing.add(Listener("tls4", Transport.TLS, HostPort(PBX.host, 5061)))
    sending.send(uri="sips:1008@192.0.2.1")
    assert [remote for message, remote in sending.bench.sent if isinstance(message, Request)] == [DESK]
    sending.bench.sent.clear()
    sending.bench.advance(PATIENCE_S + 1)
    assert sending.bench.response(ALICE, 480)


@pytest.mark.parametrize("status", [408, 430, 503])
def test_the_next_binding_is_tried_where_one_is_not_able(status: int) -> None:
    sending = Sending(binding(BOB), binding(DESK))
    sending.send()
    sending.answer(BOB, status)
    sending.answer(DESK, 200)
    assert sending.bench.response(ALICE, 200)
    assert sending.events()[-1] == ("DELIVERED", 200, "delivered", 2)
    sending.assert_clean()


@pytest.mark.parametrize("status", [404, 480, 486, 488, 500, 603])
def test_who_refuses_has_the_last_word(status: int) -> None:
    sending = Sending(binding(BOB), binding(DESK))
    sending.send()
    sending.answer(BOB, status)
    assert sending.bench.response(ALICE, status)
    assert not sending.bench.take(DESK)
    sending.assert_clean()


def test_a_silent_binding_costs_some_seconds_and_its_late_answer_counts_once() -> None:
    sending = Sending(binding(BOB), binding(DESK), binding(MOBILE))
    sending.send()
    first = sending.bench.request(BOB, "MESSAGE")
    sending.bench.advance(TARGET_S + 0.1)
    second = sending.bench.request(DESK, "MESSAGE")
    sending.bench.take(BOB)
    sending.bench.send(reply(first, 200), BOB)
    assert sending.bench.response(ALICE, 200)
    sending.bench.send(reply(second, 200), DESK)
    sending.bench.advance(60)
    assert not sending.bench.take(ALICE)
    assert not sending.bench.take(MOBILE)
    assert [record for record, *_ in sending.events()] == ["SENT", "DELIVERED"]
    sending.assert_clean()


def test_silence_of_all_is_480_before_the_sender_gives_up() -> None:
    sending = Sending(binding(BOB), binding(DESK))
    sending.send()
    sending.bench.advance(PATIENCE_S + 0.1)
    assert sending.bench.response(ALICE, 480)
    assert sending.events()[-1] == ("FAILED", 480, "no_response", 2)
    assert sending.told[-1].lasted_s == pytest.approx(PATIENCE_S, abs=0.1)
    sending.bench.sent.clear()
    sending.assert_clean()


@pytest.mark.parametrize(
    ("status", "extra", "told"),
    [
        (401, 'WWW-Authenticate: Digest realm="desk", nonce="1"', 403),
        (407, 'Proxy-Authenticate: Digest realm="desk", nonce="1"', 403),
        (302, "Contact: <sip:1004@198.51.100.9>", 480),
        (305, "Contact: <sip:198.51.100.9>", 480),
        (405, "Allow: INVITE", 500),
        (420, "Unsupported: timer", 500),
        (415, "Accept: text/html", 415),
        (415, "", 488),
        (423, "Min-Expires: 60", 500),
        (503, "Retry-After: 3600", 480),
        (413, "", 413),
        (606, "", 606),
    ],
)
def test_what_a_refusal_means_to_the_sender(status: int, extra: str, told: int) -> None:
    sending = Sending(binding(BOB))
    sending.send()
    sending.answer(BOB, status, extra)
    response = sending.bench.response(ALICE, told)
    assert response.first("Accept") == ("text/html" if told == 415 else None)
    assert not {"WWW-Authenticate", "Proxy-Authenticate", "Contact", "Retry-After"} & {n for n, _ in response.headers}
    assert sending.events()[-1] == ("FAILED", told, "refused", 1)
    sending.assert_clean()


def test_a_redirection_within_the_domain_is_followed_once_round() -> None:
    sending = Sending(binding(BOB), u1009=[binding(DESK, "1009")])
    sending.send()
    sending.answer(BOB, 302, "Contact: <sip:1009@pbx.local>")
    sending.answer(DESK, 302, "Contact: <sip:1008@pbx.local>")
    assert sending.bench.response(ALICE, 480)
    assert not sending.bench.take(BOB)
    assert sending.told[-1].recipient == "1009@pbx.local"
    sending.assert_clean()


def test_a_large_message_goes_by_tcp_and_by_udp_where_that_does_not_reach() -> None:
    sending = Sending(binding(BOB))
    bench = sending.bench
    bench.addressing.add(Listener("tcp4", Transport.TCP, PBX))

    def flows() -> list[Flow]:
        return [flow for data, flow in bench.harness.wire if data.startswith(b"MESSAGE")]

    sending.send(b"x" * 1400)
    assert [flow.transport for flow in flows()] == [Transport.TCP]
    bench.transport_failed(flows()[0])
    assert [flow.transport for flow in flows()] == [Transport.TCP, Transport.UDP]
    out = [message for message in bench.take(BOB) if isinstance(message, Request)][-1]
    bench.send(reply(out, 200), BOB)
    assert bench.response(ALICE, 200)
    sending.send(b"short")
    assert len(flows()) == 2  # the same message again: answered from its transaction
    assert isinstance(bench.take(ALICE)[-1], Response)


def test_a_message_to_a_phone_that_closed_its_connection_opens_another() -> None:
    contact = f"sip:1008@{DESK.host}:5072;transport=tcp"
    sending = Sending(binding(DESK, uri=contact, transport=2, connection=9))
    bench = sending.bench
    bench.addressing.add(Listener("tcp4", Transport.TCP, PBX))
    sending.send()
    own = Flow(Transport.TCP, DESK, "tcp4", 9)
    bench.take(DESK)
    bench.transport_failed(own)
    assert bench.request(HostPort(DESK.host, 5072), "MESSAGE")
    bench.transport_failed(Flow(Transport.TCP, HostPort(DESK.host, 5072), "tcp4"))
    assert bench.response(ALICE, 480)
    assert sending.events()[-1][2] == "transport"


@pytest.mark.parametrize(
    ("uri", "bindings", "status"),
    [
        ("sip:192.0.2.1", [], 200),
        ("sip:pbx.local;transport=udp", [], 200),
        ("sip:1008@pbx.local", [binding(BOB)], 200),
        ("sip:1008@pbx.local", [], 480),
        ("sips:1008@pbx.local", [binding(BOB)], 480),
        ("sip:1009@pbx.local", [], 404),
    ],
)
def test_an_options_is_answered_as_an_invite_would_be(uri: str, bindings: list[e.Target], status: int) -> None:
    sending = Sending(*bindings)
    text = INVITE.format(branch="o1").replace("INVITE", "OPTIONS").replace("\nContent-Type: application/sdp", "")
    sending.bench.send(text.replace("sip:1008@192.0.2.1", uri, 1), ALICE)
    response = sending.bench.response(ALICE, status)
    assert bool(response.first("Allow")) is (status == 200)
    assert bool(response.first("Contact")) is (status == 200)
    assert not sending.told
    assert not sending.bench.take(BOB)
    sending.assert_clean()


def test_who_asks_about_a_user_must_prove_who_it_is() -> None:
    pbx = B2buaNode(PBX, authenticate=True)
    pbx.registrar.passwords = {"1004": "secret4", "1008": "x"}
    for uri, status in (("sip:1008@pbx.local", 407), ("sip:nobody@pbx.local", 407), ("sip:pbx.local", 200)):
        data = serialize(request("OPTIONS", uri=uri, branch=f"z9hG4bK{uri[4:8]}", call_id=uri))
        pbx.receive(data, ALICE, 1.0)
        ((answer_data, _),) = pbx.outgoing()
        assert answer_data.startswith(f"SIP/2.0 {status} ".encode())
