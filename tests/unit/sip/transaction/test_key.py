"""Matching keys and the topmost Via: RFC 3261 sections 17.2.3 and 18.2.1, RFC 3581."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pbx_sip.address import Flow, HostPort, Transport
from pbx_sip.message.headers import Headers
from pbx_sip.message.message import Request
from pbx_sip.transaction import key
from pbx_sip.transaction.key import (
    Via,
    client_key,
    invite_key_of,
    merge_identity,
    reply_flow,
    server_key,
    stateless_tag,
    take_via,
)
from support.sip_messages import UDP, request, response

V6 = Flow(Transport.UDP, HostPort("2001:db8::1", 5060), "udp6")
NAT = Flow(Transport.UDP, HostPort("203.0.113.5", 31234), "udp")


def via_of(value: str, flow: Flow) -> tuple[str, str, str]:
    """Branch, sent-by and the noted value of a Via."""
    message = Request("OPTIONS", "sip:a", Headers([("Max-Forwards", "70"), ("Via", value)]))
    via = take_via(message, flow)
    return via.branch, via.sent_by, message.first("Via") or ""


@pytest.mark.parametrize(
    ("value", "flow", "branch", "sent_by", "noted"),
    [
        ("SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1", UDP, "z9hG4bK1", "192.0.2.1:5060", None),
        ("SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1", UDP, "z9hG4bK1", "192.0.2.1", None),
        (
            "SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK1",
            NAT,
            "z9hG4bK1",
            "10.0.0.1:5060",
            "SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK1;received=203.0.113.5",
        ),
        (
            "SIP/2.0/UDP 10.0.0.1;rport;branch=z9hG4bK1",
            NAT,
            "z9hG4bK1",
            "10.0.0.1",
            "SIP/2.0/UDP 10.0.0.1;rport=31234;branch=z9hG4bK1;received=203.0.113.5",
        ),
        (  # "even if it is identical to the source address" (RFC 3581 section 4)
            "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1;rport",
            UDP,
            "z9hG4bK1",
            "192.0.2.1",
            "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1;rport=5060;received=192.0.2.1",
        ),
        (  # a longer address is another one
            "SIP/2.0/UDP 192.0.2.11;branch=z9hG4bK1",
            UDP,
            "z9hG4bK1",
            "192.0.2.11",
            "SIP/2.0/UDP 192.0.2.11;branch=z9hG4bK1;received=192.0.2.1",
        ),
        (  # what a peer says of itself is not believed
            "SIP/2.0/UDP 192.0.2.1;received=198.51.100.1;rport=9;branch=z9hG4bK1",
            UDP,
            "z9hG4bK1",
            "192.0.2.1",
            "SIP/2.0/UDP 192.0.2.1;rport=5060;branch=z9hG4bK1;received=192.0.2.1",
        ),
        ("SIP/2.0/UDP [2001:db8::1]:5060;branch=z9hG4bK1", V6, "z9hG4bK1", "[2001:db8::1]:5060", None),
        ("SIP/2.0/UDP [2001:db8::1];branch=z9hG4bK1", V6, "z9hG4bK1", "[2001:db8::1]", None),
        (  # several in one line: only the first is ours to note
            "SIP/2.0/UDP h;branch=z9hG4bK1, SIP/2.0/TCP g;rport;branch=z9hG4bK2",
            UDP,
            "z9hG4bK1",
            "h",
            "SIP/2.0/UDP h;branch=z9hG4bK1;received=192.0.2.1, SIP/2.0/TCP g;rport;branch=z9hG4bK2",
        ),
        (  # white space wherever the grammar allows it (RFC 4475 section 3.1.1.1)
            "SIP  / 2.0 / UDP   192.0.2.1 : 5060 ; Branch = z9hG4bK1",
            UDP,
            "z9hG4bK1",
            "192.0.2.1:5060",
            None,
        ),
        (
            "SIP/2.0/UDP HOST.Example.com",
            NAT,
            "",
            "host.example.com",
            "SIP/2.0/UDP HOST.Example.com;received=203.0.113.5",
        ),
    ],
)
def test_topmost_via(value: str, flow: Flow, branch: str, sent_by: str, noted: str | None) -> None:
    assert via_of(value, flow) == (branch, sent_by, value if noted is None else noted)


def test_a_request_without_via_has_none() -> None:
    assert take_via(Request("OPTIONS", "sip:a", Headers()), UDP) == Via("", "", "")


def key_of(message: Request, flow: Flow = UDP) -> tuple[str, str, str]:
    """The server key of a request as it comes."""
    return server_key(message, take_via(message, flow))


def test_branch_method_and_sent_by_make_the_key() -> None:
    assert key_of(request()) == ("z9hG4bKa1", "INVITE", "192.0.2.1:5060")
    assert key_of(request("ACK")) == key_of(request())
    assert key_of(request("BYE")) != key_of(request())
    assert key_of(request(sent_by="192.0.2.2:5060")) != key_of(request())
    assert invite_key_of(key_of(request("CANCEL"))) == key_of(request())
    assert key_of(request("Frobnicate"))[1] == "Frobnicate"


@pytest.mark.parametrize("branch", ["", "1", "z9hG4bK"])
def test_without_the_cookie_the_whole_identity_counts(branch: str) -> None:
    invite = key_of(request(branch=branch))
    assert key_of(request(branch=branch)) == invite
    assert key_of(request("ACK", branch=branch, to_tag="ours")) == invite
    assert invite_key_of(key_of(request("CANCEL", branch=branch))) == invite
    for other in (
        request(branch=branch, call_id="other"),
        request(branch=branch, cseq=2),
        request(branch=branch, from_tag="other"),
        request(branch=branch, uri="sip:other"),
        request(branch=branch, sent_by="192.0.2.2"),
    ):
        assert key_of(other) != invite


def test_client_key() -> None:
    assert client_key(response(request("BYE"), 200)) == ("z9hG4bKa1", "BYE")
    assert client_key(response(request("Frobnicate"), 200)) == ("z9hG4bKa1", "Frobnicate")


def test_copies_share_identity_and_stateless_tag_tells_requests_apart() -> None:
    assert merge_identity(request(branch="z9hG4bK1")) == merge_identity(request(branch="z9hG4bK2"))
    assert merge_identity(request(cseq=2)) != merge_identity(request())
    assert stateless_tag(request()) == stateless_tag(request())
    assert stateless_tag(request(call_id="other")) != stateless_tag(request())
    assert stateless_tag(request(call_id="\udcff"))


@pytest.mark.parametrize(
    ("via", "port"),
    [
        ("SIP/2.0/UDP 192.0.2.1:5080;branch=z9hG4bK1", 5080),
        ("SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1", 5060),
        ("SIP / 2.0 / UDP  192.0.2.1 : 5080 ; branch = z9hG4bK1", 5080),
        ("SIP/2.0/UDP 192.0.2.1:40000;branch=z9hG4bK1", 40000),
        ("SIP/2.0/UDP 192.0.2.1:5080;rport;branch=z9hG4bK1", 40000),
        ("SIP/2.0/UDP 192.0.2.1:5080;branch=z9hG4bK1;RPORT=7", 40000),
        ('SIP/2.0/UDP 192.0.2.1:5080;x=";rport";branch=z9hG4bK1', 5080),
        # A NAT is in between, or sent-by is a name: only the source port is known to lead back.
        ("SIP/2.0/UDP 10.0.0.1:5080;branch=z9hG4bK1", 40000),
        ("SIP/2.0/UDP phone.example:5080;branch=z9hG4bK1", 40000),
        ("SIP/2.0/UDP 198.51.100.9:5080;branch=z9hG4bK1", 40000),
        # Ports that are none.
        ("SIP/2.0/UDP 192.0.2.1:0;branch=z9hG4bK1", 40000),
        ("SIP/2.0/UDP 192.0.2.1:70000;branch=z9hG4bK1", 40000),
        ("SIP/2.0/UDP 192.0.2.1:x;branch=z9hG4bK1", 40000),
    ],
)
def test_where_an_answer_goes(via: str, port: int) -> None:
    """RFC 3261 section 18.2.2 and RFC 3581; never to another host than the source."""
    source = Flow(Transport.UDP, HostPort("192.0.2.1", 40000), "udp4")
    message = Request("OPTIONS", "sip:a", Headers([("Via", via)]))
    found = reply_flow(take_via(message, source), source)
    assert (found.remote, found.listener) == (HostPort("192.0.2.1", port), "udp4")


def test_where_an_answer_goes_over_ipv6_and_over_a_connection() -> None:
    v6 = Flow(Transport.UDP, HostPort("2001:db8::1", 40000), "udp6")
    for sent_by, port in (("[2001:db8::1]:5080", 5080), ("[2001:db8::1]", 5060), ("[2001:db8::2]:5080", 40000)):
        message = Request("OPTIONS", "sip:a", Headers([("Via", f"SIP/2.0/UDP {sent_by};branch=z9hG4bK1")]))
        assert reply_flow(take_via(message, v6), v6).remote.port == port
    tcp = Flow(Transport.TCP, HostPort("192.0.2.1", 40000), "tcp4", 7)
    message = Request("OPTIONS", "sip:a", Headers([("Via", "SIP/2.0/TCP 192.0.2.1:5060;branch=z9hG4bK1")]))
    assert reply_flow(take_via(message, tcp), tcp) == tcp


def test_a_comma_in_a_quotation_does_not_end_a_via() -> None:
    value = 'SIP/2.0/UDP 192.0.2.1:5060;note="a, b;branch=z9hG4bKno";branch=z9hG4bK7, SIP/2.0/UDP far;branch=z9hG4bK8'
    message = Request("OPTIONS", "sip:a", Headers([("Via", value)]))
    assert message.branch == "z9hG4bK7"
    via = take_via(message, UDP)
    assert (via.branch, via.sent_by) == ("z9hG4bK7", "192.0.2.1:5060")


PIECE = st.sampled_from(
    (
        "SIP/2.0/UDP ",
        "SIP/2.0/TCP ",
        "192.0.2.1",
        "h.x",
        "H",
        "[::1]",
        ":5062",
        ":",
        ";rport",
        ";branch=",
        "z9hG4bK1",
        ";",
        ",",
        " ",
        "=",
        '"',
    )
)


@given(
    st.lists(PIECE, max_size=8).map("".join)
    | st.permutations(["SIP/2.0/UDP 192.0.2.1", ";rport", ";branch=z9hG4bK1"]).map("".join),
    st.sampled_from((UDP, UDP._replace(remote=HostPort("198.51.100.7", 31234)))),
)
@example("SIP/2.0/UDP 192.0.2.1:5062;rport;branch=z9hG4bK1", UDP)
@example("SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1;rport", UDP)
@example("SIP/2.0/UDP 192.0.2.1;rport;branch=z9hG4bK1;rport", UDP)
@example("SIP/2.0/TLS pbx.local:5061;branch=z9hG4bK1", UDP)
@example("SIP/2.0/UDP 192.0.2.1;branch=", UDP)
def test_a_plain_via_is_taken_as_any_other(value: str, flow: Flow) -> None:
    one, other = (Request("OPTIONS", "sip:a", Headers([("Max-Forwards", "70"), ("Via", value)])) for _ in range(2))
    assert take_via(one, flow) == key._take_any(other, value, flow)
    assert one.headers == other.headers
