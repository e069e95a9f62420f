"""The call flows of RFC 3665, section by section, as SIPp ladders over UDP and TCP, IPv4 and IPv6.

The PBX stands where the RFC's proxies and its registrar stand. Section 3.4 (a proxy that fails) is the phone's doing:
it calls the second address that it knows. TLS and WebSocket, which Debian's SIPp lacks, have the wire-level phones at
the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from support.call import establish
from support.pair import Pair
from support.sipp_script import ANSWER, OFFER, Callee, Caller, sdp
from support.wire import audio_sdp

if TYPE_CHECKING:
    from support.phone import Phone
    from support.product import Product

pytestmark = pytest.mark.interop
OVER_SIPP = ["udp", "tcp", "udp6", "tcp6"]
OVER_WIRE = ["tls", "ws"]


@pytest.fixture(params=OVER_SIPP)
def kind(request: pytest.FixtureRequest) -> str:
    """The transport of both sides."""
    name: str = request.param
    return name


def registering(pair: Pair) -> Caller:
    """The caller's side, which registers itself."""
    script = pair.calling()
    script.callee = pair.caller
    return script


def register(script: Caller, *, expires: int | None = 300, contact: str | None = None, status: int = 200) -> Caller:
    """A REGISTER, its challenge, the REGISTER with credentials and its answer."""
    headers = "" if expires is None else f"Expires: {expires}\n"
    script.outside("REGISTER", headers=headers, to_domain=True, contact=contact)
    script.outside_again("REGISTER", 401, headers=headers, to_domain=True, contact=contact)
    script.recv(status)
    script.cseq += 1
    return script


def play_alone(pair: Pair, script: Caller, kind: str) -> None:
    pair.play(script, kinds=(kind, kind))


def test_2_1_successful_new_registration(pair: Pair, kind: str) -> None:
    script = registering(pair)
    script.outside("REGISTER", headers="Expires: 300\n", to_domain=True)
    script.outside_again("REGISTER", 401, headers="Expires: 300\n", to_domain=True)
    script.recv(200, Contact=rf"{pair.caller}@.*expires=(300|299)")
    play_alone(pair, script, kind)


def test_2_2_update_of_contact_list(pair: Pair, kind: str) -> None:
    script = register(registering(pair))
    second = "Contact: <mailto:bob@pbx.local>\n"
    script.outside("REGISTER", headers="Expires: 300\n", to_domain=True, contact=second)
    script.outside_again("REGISTER", 401, headers="Expires: 300\n", to_domain=True, contact=second)
    script.recv(200, **{"": f"mailto:bob@pbx.local(.|\n)*sip:{pair.caller}@"})
    play_alone(pair, script, kind)
    if kind.startswith("udp"):  # over TCP they went with their connection
        assert "mailto:bob@pbx.local" in pair.contacts(pair.caller)


def test_2_3_request_for_current_contact_list(pair: Pair, kind: str) -> None:
    script = register(registering(pair), contact="Contact: <sip:bob@192.0.2.9>\n")
    script.outside("REGISTER", to_domain=True, contact="")
    script.outside_again("REGISTER", 401, to_domain=True, contact="")
    script.recv(200, Contact="sip:bob@192.0.2.9")
    play_alone(pair, script, kind)
    if kind.startswith("udp"):
        assert pair.contacts(pair.caller) == ["sip:bob@192.0.2.9"]


def test_2_4_cancellation_of_registration(pair: Pair, kind: str) -> None:
    script = register(registering(pair), contact="Contact: <sip:bob@192.0.2.9>\n")
    play_alone(pair, register(script, contact="Contact: *\n", expires=0), kind)
    assert pair.contacts(pair.caller) == []


def test_2_5_unsuccessful_registration(pair: Pair, kind: str) -> None:
    script = Caller(pair.caller, "wrong", pair.caller)
    play_alone(pair, register(script, status=403), kind)
    assert pair.contacts(pair.caller) == []


def test_3_1_successful_session_establishment(pair: Pair, kind: str) -> None:
    pair.play(
        pair.calling().invite().recv(100).recv(180, trying=False).answered(trying=False).ack().bye().recv(200),
        Callee().ring().answer().take("BYE").reply(200),
        kinds=(kind, kind),
    )
    legs = pair.cdr(outcome="answered", sip_status=200, hung_up_by="caller")["legs"]
    assert {leg["transport"] for leg in legs} == {kind.rstrip("6")}
    pair.released()


def test_3_2_session_establishment_through_two_proxies(pair: Pair, kind: str) -> None:
    """A B2BUA in their place: the callee sees one hop, its own dialog, and a BYE that it sends reaches the caller."""
    pair.play(
        pair.calling().invite().recv(180).answered().ack().take("BYE", Max_Forwards="^ *(69|70)").reply(200),
        Callee().take("INVITE", Max_Forwards="^ *(69|70)", Call_ID="[^@]+").reply(180).answer().bye().recv(200),
        kinds=(kind, kind),
    )
    ids = {leg["sip_call_id"] for leg in pair.cdr(outcome="answered", hung_up_by="callee")["legs"]}
    assert len(ids) == 2
    pair.released()


def test_3_3_session_with_proxy_authentication(pair: Pair, kind: str) -> None:
    """Asked once: an INVITE and a BYE inside the dialog are not challenged again."""
    caller = Caller(pair.caller, "", pair.callee).invite().recv(407, Proxy_Authenticate='qop="?auth').reject_ack()
    play_alone(pair, caller, kind)
    caller = pair.calling().invite().recv(180).answered().ack()
    pair.play(
        caller.invite(sdp(version=2)).answered().ack().bye().recv(200),
        Callee().ring().answer().take("INVITE").answer(sdp(port=42000, version=2)).take("BYE").reply(200),
        kinds=(kind, kind),
    )
    pair.cdr(outcome="answered")
    pair.released()


def test_3_6_session_via_redirect_with_sdp_in_the_ack(product: Product, pair: Pair, other: Pair, kind: str) -> None:
    """The PBX follows the 302 in the RFC's proxy's place; the offer is in the 200, the answer in the ACK."""
    with product.phone_on(kind, pair.callee) as moved:
        assert moved.register().status == 200

        def send_on() -> None:
            invite = moved.expect("INVITE")
            contact = [("Contact", f"<sip:{other.callee}@pbx.local>")]
            moved.reply(invite, 302, "Moved Temporarily", dialog=moved.answer(invite), headers=contact)
            moved.expect("ACK")

        with ThreadPoolExecutor(1) as beside:
            sent_on = beside.submit(send_on)
            there = Pair(product, pair.caller, other.callee)
            caller = pair.calling().invite("").recv(180).answered().ack(OFFER).bye().recv(200)
            callee = Callee().ring().reply(200, ANSWER, reliable=True).take("ACK", Content_Type="application/sdp")
            there.play(caller, callee.take("BYE").reply(200), kinds=(kind, kind))
            sent_on.result(5)
    cdr = pair.cdr(outcome="answered", dialled=pair.callee, callee=pair.callee, connected=other.callee)
    assert cdr["sip_status"] == 200
    pair.released()


def test_3_7_session_with_re_invite_ip_address_change(pair: Pair, kind: str) -> None:
    moved = sdp(port=43_000, version=2).replace("[media_ip]", "2001:db8::2" if kind.endswith("6") else "192.0.2.2")
    moved = moved.replace("c=IN IP4", "c=IN IP6") if kind.endswith("6") else moved
    pair.play(
        pair.calling().invite().recv(180).answered().ack().invite(moved).answered().ack().bye().recv(200),
        Callee().ring().answer().take("INVITE").answer(sdp(port=42000, version=2)).take("BYE").reply(200),
        kinds=(kind, kind),
    )
    pair.cdr(outcome="answered")
    pair.released()


def test_3_8_unsuccessful_no_answer(pair: Pair, kind: str) -> None:
    pair.play(
        pair.calling().invite().recv(180).pause(50).cancel().recv(200, CSeq="CANCEL").recv(487).reject_ack(),
        Callee().ring().cancelled(),
        kinds=(kind, kind),
    )
    pair.cdr(outcome="cancelled", sip_status=487, hung_up_by="caller")
    pair.released()


def test_3_9_unsuccessful_busy(pair: Pair, kind: str) -> None:
    pair.play(
        pair.calling().invite().recv(486).reject_ack(),
        Callee().take("INVITE").reject(486),
        kinds=(kind, kind),
    )
    pair.cdr(outcome="busy", sip_status=486)
    pair.released()


def test_3_10_unsuccessful_no_response_from_user_agent(product: Product, pair: Pair, kind: str) -> None:
    with product.phone_on(kind, pair.callee) as callee:
        assert callee.register().status == 200
        play_alone(pair, pair.calling().invite().recv(480).reject_ack(), kind)
        pair.cdr(outcome="no_answer", origin="timer", sip_status=480)
        invite = callee.expect("INVITE")
        theirs = callee.answer(invite)
        callee.reply(invite, 180, "Ringing", dialog=theirs)  # awake at last: now it can be cancelled
        cancel = invite
        while cancel.method != "CANCEL":  # past repetitions of the INVITE
            cancel = callee.receive()
        callee.reply(cancel, 200, "OK", dialog=theirs)
        callee.reply(invite, 487, "Request Terminated", dialog=theirs)
        callee.expect("ACK")
    pair.released()


def test_3_11_unsuccessful_temporarily_unavailable(pair: Pair, kind: str) -> None:
    pair.play(
        pair.calling().invite().recv(180).recv(480).reject_ack(),
        Callee().ring().reject(480),
        kinds=(kind, kind),
    )
    pair.cdr(outcome="no_answer", sip_status=480)
    pair.released()


@pytest.fixture(params=OVER_WIRE)
def phones(request: pytest.FixtureRequest, product: Product, pair: Pair) -> Iterator[tuple[Phone, Phone]]:
    """Caller and registered callee over TLS, or over WebSocket."""
    with product.phone_on(request.param, pair.caller) as caller, product.phone_on(request.param, pair.callee) as callee:
        assert callee.register().status == 200
        yield caller, callee
    pair.released()


def test_3_1_3_5_and_3_7_over_tls_and_websocket(product: Product, pair: Pair, phones: tuple[Phone, Phone]) -> None:
    """3.5: both are told ports of the relay, as that RFC's ALG opens its own."""
    caller, callee = phones
    call = establish(caller, callee)
    first, last = product.relay_ports
    assert first <= call.relay_port() < last
    assert first <= call.relay_port(of_callee=True) < last
    caller.request(call.caller_dialog, "INVITE", body=audio_sdp(43_000, host="192.0.2.2", version=2))
    again = callee.expect("INVITE")
    callee.reply(again, 200, "OK", dialog=call.callee_dialog, body=audio_sdp(callee.port + 2, version=2))
    caller.ack(call.caller_dialog, caller.expect(200))
    callee.expect("ACK")
    call.hang_up()
    pair.cdr(outcome="answered", hung_up_by="caller")


def test_3_8_over_tls_and_websocket(pair: Pair, phones: tuple[Phone, Phone]) -> None:
    caller, callee = phones
    dialog = caller.dial(callee.user)
    invite = callee.expect("INVITE")
    theirs = callee.answer(invite)
    callee.reply(invite, 180, "Ringing", dialog=theirs)
    caller.expect(180)
    caller.cancel(dialog)
    callee.reply(callee.expect("CANCEL"), 200, "OK", dialog=theirs)
    callee.reply(invite, 487, "Request Terminated", dialog=theirs)
    callee.expect("ACK")
    caller.expect(200, method="CANCEL")
    caller.ack(dialog, caller.expect(487))
    pair.cdr(outcome="cancelled")


@pytest.mark.parametrize("status", [480, 486])
def test_3_9_and_3_11_over_tls_and_websocket(pair: Pair, phones: tuple[Phone, Phone], status: int) -> None:
    caller, callee = phones
    dialog = caller.dial(callee.user)
    invite = callee.expect("INVITE")
    callee.reply(invite, status, "Sorry", dialog=callee.answer(invite))
    callee.expect("ACK")
    caller.ack(dialog, caller.expect(status))
    pair.cdr(sip_status=status)
