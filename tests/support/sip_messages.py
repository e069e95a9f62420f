"""SIP messages for tests of the SIP core: small builders with sensible defaults."""

from __future__ import annotations

from pbx_sip.address import Flow, HostPort, Transport
from pbx_sip.message.headers import Headers
from pbx_sip.message.message import Request, Response, response_to

UDP = Flow(Transport.UDP, HostPort("192.0.2.1", 5060), "udp")
TCP = Flow(Transport.TCP, HostPort("192.0.2.1", 41000), "tcp", 7)


def request(
    method: str = "INVITE",
    *,
    branch: str = "z9hG4bKa1",
    uri: str = "sip:bob@example.com",
    call_id: str = "call-1",
    from_tag: str = "alice-1",
    to_tag: str = "",
    cseq: int = 1,
    sent_by: str = "192.0.2.1:5060",
    via_params: str = "",
    extra: tuple[tuple[str, str], ...] = (),
    body: bytes = b"",
) -> Request:
    """A request; an empty branch or tag leaves the parameter out."""
    via = f"SIP/2.0/UDP {sent_by}{via_params}" + (f";branch={branch}" if branch else "")
    items = [
        ("Via", via),
        ("Max-Forwards", "70"),
        ("From", "<sip:alice@example.com>" + (f";tag={from_tag}" if from_tag else "")),
        ("To", "<sip:bob@example.com>" + (f";tag={to_tag}" if to_tag else "")),
        ("Call-ID", call_id),
        ("CSeq", f"{cseq} {method}"),
        ("Contact", "<sip:alice@192.0.2.1:5060>"),
        *extra,
    ]
    return Request(method, uri, Headers(items), body)


def response(of: Request, status: int, to_tag: str = "bob-1", **headers: str) -> Response:
    """A response to a request; keyword arguments are headers, with "_" for "-"."""
    answer = response_to(of, status, "", "" if status == 100 else to_tag)
    for name, value in headers.items():
        answer.headers.append(name.replace("_", "-"), value)
    return answer


def without_note(of: Request) -> Request:
    """A copy of a request, for sending it a second time."""
    return Request(of.method, of.uri, of.headers.copy(), of.body)
