"""The transaction layer, whatever comes: nothing stays behind, and no limit is passed."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pbx_sip.address import Flow, HostPort, Transport
from pbx_sip.message.message import Message, Response
from pbx_sip.transaction import events as tx
from pbx_sip.transaction.layer import TransactionLayer
from pbx_sip.transaction.timers import Timers
from support.sip_messages import TCP, UDP, request

OWNER = object()

FIELDS = ("Via", "From", "To", "Call-ID", "CSeq", "Max-Forwards", "Contact", "RSeq", "Require", "Route")
METHODS = ("INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "REGISTER", "PRACK", "UPDATE", "Frobnicate")
VALUES = st.one_of(
    st.sampled_from(
        (
            *("SIP/2.0/UDP h;branch=z9hG4bK1", "SIP/2.0/UDP h;rport;branch=z9hG4bK2", "SIP/2.0/UDP [::1]:5060;branch="),
            *("SIP/2.0/UDP h, SIP/2.0/TCP g;branch=z9hG4bK3", "SIP/2.0/UDP", ";;;", "<sip:a@b>;tag=1", "<sip:a@b>"),
            *("1 INVITE", "1 ACK", "2 BYE", "INVITE", "99999999999 INVITE", "c"),
        )
    ),
    st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=20
    ),  # the parser lets no line end through
)
FLOWS = st.sampled_from((UDP, TCP, Flow(Transport.UDP, HostPort("2001:db8::1", 5060), "udp6")))


@st.composite
def messages(draw: st.DrawFn) -> Message:
    """Any message, valid or not, often one that meets another."""
    made = request(
        draw(st.sampled_from(METHODS)),
        branch=draw(st.sampled_from(("", "z9hG4bK", "z9hG4bK1", "z9hG4bK2", "old"))),
        call_id=draw(st.sampled_from(("", "a", "b"))),
        to_tag=draw(st.sampled_from(("", "t"))),
        cseq=draw(st.integers(0, 3)),
        sent_by=draw(st.sampled_from(("h", "192.0.2.1", "[::1]:5061", "h:x", ""))),
    )
    for name in draw(st.lists(st.sampled_from(FIELDS), max_size=3)):
        if draw(st.booleans()):
            made.headers.remove(name)
        else:
            made.headers.set(name, draw(VALUES))
    if draw(st.booleans()):
        return made
    return Response(draw(st.integers(100, 699)), "x", made.headers)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(messages(), FLOWS, st.floats(0, 3)), max_size=25), st.data())
def test_whatever_comes_nothing_stays(script: list[tuple[Message, Flow, float]], data: st.DataObject) -> None:
    layer, now = TransactionLayer(Timers(), limit=10), 0.0
    layer.request(request(branch="z9hG4bK1"), UDP, now, OWNER)
    for message, flow, passes in script:
        now += passes
        layer.receive(message, flow, now)
        for output in layer.drain():
            if type(output) is tx.RequestReceived:
                status = data.draw(st.sampled_from((0, 100, 180, 200, 486)), label="status")
                if status or output.request.method == "INVITE":
                    layer.respond(output.key, Response(status or 503, "x", output.request.headers), now)
                    layer.respond(output.key, Response(487, "x", output.request.headers), now)
        layer.handle_timeout(now)
        layer.drain()
        assert layer.active <= 20
    while (due := layer.next_timeout) is not None:
        layer.handle_timeout(max(now, due))
    layer.drain()
    assert (layer.active, len(layer._deadlines), layer._merge, layer._merge_of) == (0, 0, {}, {})
