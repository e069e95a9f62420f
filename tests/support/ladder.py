"""Messages of Alice and Bob around `bench_core.Bench`, written out line by line; `establish` brings a call up."""

from __future__ import annotations

from pbx_sip.message.message import Request, Response
from support.bench_core import ALICE, BOB, Bench, sdp

INVITE = """INVITE sip:1008@192.0.2.1 SIP/2.0
Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK{branch};rport
Max-Forwards: 70
From: "Alice" <sip:1004@pbx.local>;tag=a1
To: <sip:1008@pbx.local>
Call-ID: call-1@alice
CSeq: 1 INVITE
Contact: <sip:1004@192.0.2.10:5060>
Supported: 100rel
Content-Type: application/sdp"""

CANCEL = INVITE.format(branch="i1").replace("INVITE", "CANCEL").replace("\nContent-Type: application/sdp", "")
"""Alice gives up what `invite` began."""


def invite(
    bench: Bench,
    body: bytes | None = None,
    branch: str = "i1",
    extra: str = "",
    *,
    reliable: bool = True,
    sender: str = "",
    contact: str = "",
    to: str = "",
) -> None:
    """Alice calls, `to` a Request-URI; `extra` holds further header lines, `reliable` is whether she takes reliable
    progress.

    `sender` takes the place of her name and address in From, `contact` that of her host in Contact.
    """
    text = INVITE.format(branch=branch)
    if to:
        text = text.replace("INVITE sip:1008@192.0.2.1 ", f"INVITE {to} ")
    if contact:
        text = text.replace("sip:1004@192.0.2.10", f"sip:1004@{contact}")
    if sender:
        text = text.replace('"Alice" <sip:1004@pbx.local>', sender)
    if not reliable:
        text = text.replace("\nSupported: 100rel", "")
    if extra:
        text = text.replace("\nContent-Type", f"\n{extra}\nContent-Type")
    offer = sdp("192.0.2.10") if body is None else body
    if not offer:
        text = text.replace("\nContent-Type: application/sdp", "")
    bench.send(text, ALICE, offer)


def reply(request: Request, status: int, body: bytes = b"", tag: str = "b1", extra: str = "") -> str:
    """A response of Bob."""
    lines = [f"SIP/2.0 {status} X"]
    for name, value in request.headers:
        if name in ("Via", "From", "Call-ID", "CSeq"):
            lines.append(f"{name}: {value}")
        elif name == "To":
            lines.append(f"To: {value}" + ("" if "tag=" in value else f";tag={tag}"))
    lines.append("Contact: <sip:1008@192.0.2.20:5060>")
    if extra:
        lines.append(extra)
    if body:
        lines.append("Content-Type: application/sdp")
    return "\n".join(lines)


def answer(bench: Bench, request: Request, status: int, body: bytes = b"", tag: str = "b1", extra: str = "") -> None:
    """Bob responds."""
    bench.send(reply(request, status, body, tag, extra), BOB, body)


def within(method: str, response: Response, cseq: int, branch: str) -> str:
    """A request of Alice inside the dialog that a response of ours made."""
    return f"""{method} sip:s1@192.0.2.1:5060 SIP/2.0
Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK{branch}
Max-Forwards: 70
From: <sip:1004@pbx.local>;tag=a1
To: {response.first("To")}
Call-ID: call-1@alice
CSeq: {cseq} {method}"""


def from_bob(method: str, invite_out: Request, cseq: int, branch: str, tag: str = "b1") -> str:
    """A request of Bob inside the dialog of our INVITE."""
    return f"""{method} sip:s1@192.0.2.1:5060 SIP/2.0
Via: SIP/2.0/UDP 192.0.2.20:5060;branch=z9hG4bK{branch}
Max-Forwards: 70
From: {invite_out.first("To")};tag={tag}
To: {invite_out.first("From")}
Call-ID: {invite_out.call_id}
CSeq: {cseq} {method}"""


def establish(bench: Bench, *, caller: str = "", callee: str = "", contact: str = "") -> tuple[Request, Response]:
    """A call that is up: our INVITE to Bob, our 200 to Alice. Further header lines of the INVITE and of Bob's 200."""
    invite(bench, extra=caller, contact=contact)
    bench.response(ALICE, 100)
    out = bench.request(BOB, "INVITE")
    answer(bench, out, 180)
    bench.response(ALICE, 180)
    answer(bench, out, 200, sdp("192.0.2.20"), extra=callee)
    ok = bench.response(ALICE, 200)
    bench.send(within("ACK", ok, 1, "k1"), ALICE)
    bench.request(BOB, "ACK")
    return out, ok
