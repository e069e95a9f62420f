"""What phones write into Contact, Record-Route and Path never decides where we send, but at their own address."""

from __future__ import annotations

import pytest

from pbx_signaling.border.trust import Trust
from pbx_signaling.calls import signals as e
from pbx_sip.address import HostPort
from pbx_sip.message.message import Request
from support.bench_core import ALICE, BOB, PBX, Bench, sdp
from support.ladder import CANCEL, answer, establish, from_bob, invite, reply, within

ELSEWHERE = (
    "198.51.100.66:7000",
    "198.51.100.66:7000;transport=tcp",
    "127.0.0.1:6379;transport=tcp",
    "[::1]:9102",
    "[::ffff:169.254.169.254]:8080",
    "10.1.1.1",
    "224.0.1.75",
    "192.0.2.1:5060",
    "192.0.2.10:22",
    "metadata.internal",
)


def everything(bench: Bench, out: Request) -> None:
    """Both sides ask inside the call, and it ends: every kind of message that we send in a dialog."""
    for number, method in enumerate(("INFO", "MESSAGE", "UPDATE"), 10):
        bench.send(from_bob(method, out, number, f"e{method}") + "\nContent-Type: text/plain", BOB, b"hello")
    bench.advance(40)  # whatever waits is repeated, and given up


def receivers(bench: Bench) -> set[HostPort]:
    """Where anything was sent."""
    return {remote for _, remote in bench.sent}


@pytest.mark.parametrize("where", ELSEWHERE)
@pytest.mark.parametrize("name", ["Contact", "Record-Route"])
def test_a_caller_that_names_another_hop_is_reached_on_its_flow(where: str, name: str) -> None:
    bench = Bench()
    if name == "Contact":
        out, _ = establish(bench, contact=where + ">;x=<")
    else:
        out, _ = establish(bench, caller=f"Record-Route: <sip:{where};lr>")
    everything(bench, out)
    assert receivers(bench) <= {ALICE, BOB}
    assert any(isinstance(message, Request) and remote == ALICE for message, remote in bench.sent)


@pytest.mark.parametrize("where", ELSEWHERE)
@pytest.mark.parametrize("name", ["Contact", "Record-Route"])
def test_a_callee_that_names_another_hop_is_reached_on_its_flow(where: str, name: str) -> None:
    bench = Bench()
    invite(bench)
    out = bench.request(BOB, "INVITE")
    extra = f"Contact: <sip:x@{where}>" if name == "Contact" else f"Record-Route: <sip:{where};lr>"
    ok = reply(out, 200, sdp(BOB.host), extra=extra)
    if name == "Contact":
        ok = ok.replace("Contact: <sip:1008@192.0.2.20:5060>\n", "")
    bench.send(ok, BOB, sdp(BOB.host))
    bench.send(ok, BOB, sdp(BOB.host))  # a repetition
    bench.send(ok.replace("tag=b1", "tag=b2"), BOB, sdp(BOB.host))  # another fork
    bench.advance(70)
    bench.send(ok.replace("tag=b1", "tag=b3"), BOB, sdp(BOB.host))  # when the transaction is gone
    bench.advance(40)
    assert receivers(bench) <= {ALICE, BOB}


@pytest.mark.parametrize("where", ELSEWHERE)
@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_a_target_refresh_to_another_hop_is_not_followed(where: str, method: str) -> None:
    bench = Bench()
    out, ok = establish(bench)
    body = sdp(ALICE.host) if method == "INVITE" else b""
    refresh = within(method, ok, 2, "r2") + f"\nContact: <sip:1004@{where}>"
    bench.send(refresh + ("\nContent-Type: application/sdp" if body else ""), ALICE, body)
    if method == "INVITE":
        bench.send(reply(bench.request(BOB, "INVITE"), 200, sdp(BOB.host)), BOB, sdp(BOB.host))
        bench.send(within("ACK", ok, 2, "k2"), ALICE)
    bench.sent.clear()
    everything(bench, out)
    assert receivers(bench) <= {ALICE, BOB}
    assert ALICE in receivers(bench)


def test_a_binding_elsewhere_is_reached_where_it_was_registered() -> None:
    for uri, path in (
        ("sip:1008@198.51.100.66:7000", ()),
        ("sip:1008@127.0.0.1:6379;transport=tcp", ()),
        (f"sip:1008@{BOB}", ("<sip:198.51.100.66:7000;lr>",)),
        (f"sip:1008@{PBX}", ()),
    ):
        target = e.Target(uri, "1008@pbx.local", path, 1, BOB.host, BOB.port, "udp4", 0, "s1")
        bench = Bench(found=e.Found(True, [target]))
        invite(bench)
        bench.send(CANCEL, ALICE)
        bench.advance(70)
        assert receivers(bench) == {ALICE, BOB}


def test_a_phone_that_listens_on_another_port_than_it_sends_from_is_reached_there() -> None:
    bench = Bench()
    out, _ = establish(bench, contact="192.0.2.10:5090>;x=<")
    bench.send(from_bob("BYE", out, 5, "bye"), BOB)
    bench.response(BOB, 200)
    assert bench.request(HostPort("192.0.2.10", 5090), "BYE")


def test_a_phone_that_moved_is_followed_with_its_refresh_and_its_old_address_is_not_used() -> None:
    bench = Bench()
    out, ok = establish(bench)
    moved = HostPort("192.0.2.77", 6000)
    bench.send(within("UPDATE", ok, 2, "u2") + "\nContact: <sip:1004@192.0.2.77:6000>", moved)
    bench.response(moved, 200)
    bench.send(from_bob("BYE", out, 5, "bye"), BOB)
    bench.response(BOB, 200)
    assert bench.request(moved, "BYE")
    assert not bench.take(ALICE)


def test_a_listed_proxy_is_followed_and_stays_in_the_way() -> None:
    bench = Bench()
    bench.addressing.hops.proxies = Trust([f"{ALICE.host}/32"])
    out, _ = establish(bench, caller="Record-Route: <sip:192.0.2.30:5070;lr>")
    bench.send(from_bob("BYE", out, 5, "bye"), BOB)
    bench.response(BOB, 200)
    bye = bench.request(HostPort("192.0.2.30", 5070), "BYE")
    assert bye.first("Route") == "<sip:192.0.2.30:5070;lr>"
    assert bye.uri == "sip:1004@192.0.2.10:5060"


def test_responses_go_where_the_request_came_from_whatever_its_via_says() -> None:
    bench = Bench()
    via = "SIP/2.0/UDP 198.51.100.66:7000;branch=z9hG4bK{}{}"
    for number, extra in enumerate(("", ";maddr=198.51.100.67", ";received=198.51.100.68", ";rport=7001")):
        for method in ("OPTIONS", "INVITE", "BYE"):
            bench.send(
                f"""{method} sip:1008@192.0.2.1 SIP/2.0
                Via: {via.format(method, number)}{extra}
                Max-Forwards: 70
                From: <sip:1004@pbx.local>;tag=v{number}
                To: <sip:1008@pbx.local>
                Call-ID: v{number}{method}
                CSeq: 1 {method}
                Contact: <sip:1004@192.0.2.10:5060>""",
                ALICE,
            )
    assert {remote for message, remote in bench.sent if not isinstance(message, Request)} == {ALICE}


def test_answer_of_a_phone_without_a_contact_leaves_the_flow() -> None:
    bench = Bench()
    invite(bench)
    out = bench.request(BOB, "INVITE")
    answer(bench, out, 180)
    bench.send(reply(out, 200, sdp(BOB.host)).replace("Contact: <sip:1008@192.0.2.20:5060>\n", ""), BOB, sdp(BOB.host))
    ok = bench.take(ALICE)[-1]
    bench.send(within("ACK", ok, 1, "k1"), ALICE)  # type: ignore[arg-type]  # a response, as the ladder shows
    assert bench.request(BOB, "ACK")
