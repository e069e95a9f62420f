"""Hostile messages into live calls: real datagrams with one thing wrong. The core never raises, and ends clean."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from pbx_signaling.calls.state import CallPolicy
from pbx_sip.address import HostPort
from support.b2bua_node import B2buaNode
from support.netem import Network
from support.simulation import simulation
from support.ua import Plan, Ua

ALICE, BOB, PBX = HostPort("192.0.2.10", 5060), HostPort("192.0.2.20", 5060), HostPort("192.0.2.1", 5060)

NASTY = (
    *(b"", b" ", b"\xc2\xb2", b"\xd9\xa3", b"-1", b"0", b"4294967296", b"9" * 40, b"\xff\xfe", b"<", b">", b'"', b";"),
    *(b";;;=", b"<sip:>", b"<sip:a@[::1>", b"sip:", b"1 INVITE", b"2147483648 BYE", b"a,b,,c", b"\\", b"%00", b"*"),
    *(b"<sip:x@y;lr>,<", b"SIP/2.0/UDP", b"SIP/2.0/UDP ;branch=z9hG4bK", b"1800;refresher=x", b"Q.850;cause=\xc2\xb9"),
    *(b"application/sdp;", b"100rel, 100rel", b"x" * 3000, b"Digest realm=", b'Digest username="', b"1 1 INVITE"),
)
NAMES = (
    *(b"Via", b"From", b"To", b"Call-ID", b"CSeq", b"Contact", b"Max-Forwards", b"Content-Type", b"Content-Length"),
    *(b"Record-Route", b"Route", b"Require", b"Supported", b"RSeq", b"RAck", b"Retry-After", b"Reason", b"Expires"),
    *(b"Proxy-Authorization", b"Authorization", b"User-Agent", b"Content-Disposition", b"Info-Package", b"Timestamp"),
)
SDP_LINES = (
    *(b"m=audio", b"m=audio 0 RTP/AVP", b"m=audio \xc2\xb2 RTP/AVP 0", b"m=audio 99999 RTP/AVP 0", b"m=video 4 x y"),
    *(b"c=IN IP4", b"c=IN IP6 ::1", b"c=IN IP4 256.1.1.1", b"c=", b"o=", b"o=- x y IN IP4 h", b"a=rtpmap:\xc2\xb9 x/y"),
    *(b"a=rtcp:", b"a=rtcp:\xc2\xb2 IN IP4 1.2.3.4", b"a=ptime:\xc2\xb2", b"v=1", b"a=fmtp", b"=", b"\xff", b"m=" * 9),
)


@st.composite
def wounds(draw: st.DrawFn) -> tuple[str, bytes, bytes, int]:
    """What is done to a datagram: kind, where, with what."""
    kind = draw(st.sampled_from(("replace", "add", "drop", "double", "sdp", "bytes", "cut", "tag", "start")))
    return kind, draw(st.sampled_from(NAMES)), draw(st.sampled_from(NASTY)), draw(st.integers(0, 400))


def wounded(data: bytes, wound: tuple[str, bytes, bytes, int]) -> bytes:
    """The datagram with its wound."""
    kind, name, value, where = wound
    head, separator, body = data.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    match kind:
        case "replace":
            lines = [name + b": " + value if line.startswith(name + b":") else line for line in lines]
        case "add":
            lines.insert(1 + where % len(lines), name + b": " + value)
        case "drop":
            lines = [line for line in lines if not line.startswith(name + b":")]
        case "double":
            lines += [line for line in lines if line.startswith(name + b":")]
        case "sdp":
            line = SDP_LINES[where % len(SDP_LINES)]
            body = re.sub(rb"(?m)^" + re.escape(line[:2]) + rb"[^\r\n]*", lambda _: line, body) or line + b"\r\n"
            lines = [line for line in lines if not line.startswith(b"Content-Length")]
        case "bytes":
            at = where % max(1, len(data))
            return data[:at] + value + data[at + 1 :]
        case "cut":
            return data[: where % max(1, len(data))]
        case "tag":
            return re.sub(rb"tag=[^;\r\n]*", lambda _: b"tag=" + value, data, count=1 + where % 2)
        case "start":
            lines[0] = lines[0].replace(b"SIP/2.0", value, 1) if where % 2 else value + lines[0]
    return b"\r\n".join(lines) + separator + body


@simulation(100)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.booleans(), wounds()), min_size=1, max_size=12),
    st.booleans(),
    st.booleans(),
)
def test_wounded_messages(
    attacks: list[tuple[int, bool, tuple[str, bytes, bytes, int]]], reliable: bool, authenticate: bool
) -> None:
    """Attack (number, instead, wound): behind, or in place of, the n-th datagram to the product goes a wounded copy."""
    network = Network()
    pbx = B2buaNode(PBX, authenticate=authenticate, policy=CallPolicy(no_answer_s=30.0, longest_s=600.0))
    pbx.registrar.passwords = {"1004": "a", "1008": "b"}
    pbx.bind("1008", BOB)
    alice, bob = Ua("1004", ALICE, PBX, "a"), Ua("1008", BOB, PBX, "b")
    bob.plan = Plan(reliable=reliable, ring_sdp=reliable)
    for node in (alice, bob, pbx):
        network.add(node)
    planned = {number: (instead, wound) for number, instead, wound in attacks}
    arrived = 0
    receive = pbx.receive

    def attacked(data: bytes, source: HostPort, now: float) -> None:
        nonlocal arrived
        instead, wound = planned.get(arrived, (False, None))
        arrived += 1
        if not instead:
            receive(data, source, now)
        if wound is not None:
            receive(wounded(data, wound), source, now)

    pbx.receive = attacked  # type: ignore[method-assign]
    bob.register()
    call = alice.call("1008", reliable=reliable)
    network.run(4)
    for act in (
        lambda: alice.modify(call),
        lambda: alice.tell(call),
        lambda: alice.modify(call, "UPDATE"),
        lambda: alice.hang_up(call),
    ):
        act()
        network.run(4)
    network.run(400)
    for phone in (alice, bob):
        for each in phone.calls:
            phone.cancel(each) if not each.received else None
            phone.hang_up(each)
    network.settle()
    pbx.assert_clean()
