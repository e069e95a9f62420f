"""How messages find their transactions (RFC 3261 sections 17.1.3, 17.2.3, 9.2 and 8.2.2.2), and the topmost
Via.

    client    branch of the topmost Via, method of CSeq
    server    branch, method (ACK: that of its INVITE), sent-by
    RFC 2543  a request whose branch lacks the cookie is identified by Request-URI, From-tag, Call-ID, CSeq
    number
              and topmost Via together

Deliberately not RFC 2543 to the letter: its To-tag is left out. Call-ID, From-tag and CSeq number say as
much, and an ACK carries the tag of our response, which the INVITE had not.
"""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING, Final, NamedTuple

from pbx_sip.address import Transport
from pbx_sip.message.headers import split_commas, split_semicolons
from pbx_sip.message.message import BRANCH_COOKIE, METHODS, Request, Response

if TYPE_CHECKING:
    from pbx_sip.address import Flow
    from pbx_sip.transaction.events import ClientKey, ServerKey

_PLAIN: Final = re.compile(
    r"(SIP/2\.0/[A-Z]+ ([a-z0-9.-]+)(:[0-9]+)?)(;rport)?;branch=([-A-Za-z0-9.!%*_+`'~]+)(;rport)?"
)
"""Protocol, host and port of sent-by, the branch, and rport on one side of it, as nearly all write them."""
MAX_PORT: Final = 65_535
KEEP_STREAM_S: Final = 120
"""Seconds between the keep-alive packets that a peer offers to send (RFC 6223 section 4.3): RFC 5626's figure."""
KEEP_UDP_S: Final = 25
"""The same over UDP, where NATs forget after 30 s (RFC 5626 section 4.4.2: 24 to 29)."""


class Via(NamedTuple):
    """What matching and answering need of a topmost Via as it came."""

    branch: str
    """Empty where there is none."""
    sent_by: str
    """In lower case."""
    text: str
    """The whole value."""
    is_symmetric: bool = False
    """It asks by `rport` for the answer where the request came from (RFC 3581)."""


def take_via(request: Request, flow: Flow) -> Via:
    """Reads the topmost Via of a request and notes in it where the request came from.

    Agrees to keep-alive packets where they are offered (RFC 6223). Adds `received` where sent-by is not the source
    address or `rport` was asked for, and fills `rport` in (RFC 3261 section 18.2.1, RFC 3581 section 4). A
    `received` that the peer wrote itself is replaced.
    """
    value = request.headers.index.get("Via")
    if value is None:
        return Via("", "", "")
    plain = _PLAIN.fullmatch(value)
    if plain is not None and not (plain[4] and plain[6]):
        return _take_plain(request, plain, flow)
    return _take_any(request, value, flow)


def _take_any(request: Request, value: str, flow: Flow) -> Via:
    text, comma, others = value.partition(",") if '"' not in value else _first_quoted(value)
    head, *params = text.split(";") if '"' not in text else split_semicolons(text) or [""]
    sent_by = _sent_by(head)
    branch, changed, is_symmetric = _note(params, sent_by, flow)
    if changed:
        noted = ";".join((head.rstrip(), *params))
        request.headers.set_first("Via", f"{noted},{others}" if comma else noted)
    return Via(branch, sent_by, text, is_symmetric)


def _take_plain(request: Request, plain: re.Match[str], flow: Flow) -> Via:
    head, host, port, before, branch, after = plain.groups()
    remote = flow.remote
    if before or after:
        own = f"rport={remote.port};branch={branch}" if before else f"branch={branch};rport={remote.port}"
        request.headers.set_first("Via", f"{head};{own};received={remote.host}")
    elif host != remote.host:
        request.headers.set_first("Via", f"{plain[0]};received={remote.host}")
    return Via(branch, f"{host}{port}" if port else host, plain[0], bool(before or after))


def via_of(response: Response) -> Via:
    """The topmost Via of an answer to what could not be taken in, as far as `reply_flow` needs it."""
    head, *params = split_semicolons(response.top_via) or [""]
    is_symmetric = any(param.partition("=")[0].strip().lower() == "rport" for param in params)
    return Via("", _sent_by(head), response.top_via, is_symmetric)


def _sent_by(head: str) -> str:
    """Of "SIP/2.0/UDP host:port", where white space may stand around the slashes and around the colon."""
    return "".join(head.rpartition("/")[2].split()[1:]).lower()


def _first_quoted(value: str) -> tuple[str, str, str]:
    """The first of several values where a comma may stand in a quotation; a comma, and the others."""
    first, *others = split_commas(value) or [""]
    return first, "," if others else "", ", ".join(others)


def reply_flow(via: Via, flow: Flow) -> Flow:
    """Where the answer to a request goes: down its flow, or to the port of sent-by at the host that it came from.

    RFC 3261 section 18.2.2: over UDP and without `rport`, to the port of sent-by (a phone that sends from one port and
    listens on another). Deliberately not RFC where sent-by names another host than the source: a NAT is in between, and
    only the source port leads through it. Never to another host than the source, so that nobody can point answers at
    a third.
    """
    if flow.transport.reliable or via.is_symmetric or not via.sent_by or not _is_host(via.sent_by, flow.remote.host):
        return flow
    port = _port_of(via.sent_by)
    return flow if not port or port == flow.remote.port else flow._replace(remote=flow.remote._replace(port=port))


def _port_of(sent_by: str) -> int:
    """The port of sent-by, 5060 where it has none (section 18.2.2); 0 where it is none."""
    _, colon, port = sent_by.rpartition("]" if sent_by.startswith("[") else ":")
    if sent_by.startswith("["):
        colon, port = port[:1], port[1:]
    if not colon:
        return Transport.UDP.default_port
    return int(port) if port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= MAX_PORT else 0


def _note(params: list[str], sent_by: str, flow: Flow) -> tuple[str, bool, bool]:
    """The branch among `params`; whether `received` or `rport` were set there; and whether `rport` was asked for."""
    branch = ""
    is_symmetric = False
    remote = flow.remote
    received = not _is_host(sent_by, remote.host)
    changed = False
    for index, param in enumerate(params):
        key, _, value = param.partition("=")
        key = key.strip().lower()
        if key == "branch":
            branch = value.strip()
        elif key == "rport":
            # "The server MUST insert a received parameter ... even if it is identical" (RFC 3581 section 4).
            params[index] = f"rport={remote.port}"
            received = changed = is_symmetric = True
        elif key == "keep" and not value:
            params[index] = f"keep={KEEP_STREAM_S if flow.transport.reliable else KEEP_UDP_S}"
            changed = True
        elif key == "received":
            params[index] = ""
            received = changed = True
    if received:
        params.append(f"received={remote.host}")
        params[:] = [param for param in params if param]
    return branch, changed or received, is_symmetric


def _is_host(sent_by: str, host: str) -> bool:
    """Whether sent-by names the host, with or without a port."""
    if not sent_by.startswith("["):
        return sent_by.partition(":")[0] == host
    return sent_by[1:].partition("]")[0] == host


def server_key(request: Request, via: Via) -> ServerKey:
    """The transaction to which a request belongs; an ACK belongs to that of its INVITE (section 17.2.3)."""
    method = METHODS.get(request.method, request.method)
    if method == "ACK":
        method = "INVITE"
    if via.branch.startswith(BRANCH_COOKIE) and len(via.branch) > len(BRANCH_COOKIE):
        return via.branch, method, via.sent_by
    identity = f"{request.call_id} {request.cseq_number} {request.from_tag} {request.uri}"
    return identity, method, via.text


def invite_key_of(cancel_key: ServerKey) -> ServerKey:
    """The INVITE that a CANCEL with that key would cancel (section 9.2)."""
    return cancel_key[0], "INVITE", cancel_key[2]


def client_key(response: Response) -> ClientKey:
    """The transaction to which a response belongs (section 17.1.3)."""
    return response.branch, response.cseq_method


def merge_identity(request: Request) -> str:
    """What two copies of one request share that took different ways to us (section 8.2.2.2)."""
    return f"{request.call_id} {request.cseq[0]} {request.method} {request.from_tag}"


def identity_of_cancelled(cancel: Request) -> str:
    """The `merge_identity` of the INVITE that a CANCEL is for: Call-ID, From-tag and number are the same (9.1)."""
    return f"{cancel.call_id} {cancel.cseq_number} INVITE {cancel.from_tag}"


def stateless_tag(request: Request) -> str:
    """A To-tag that is the same for each copy of a request (section 8.2.7); no secret, and no dialog's."""
    identity = f"{request.call_id} {request.from_tag} {request.branch}"
    return f"{zlib.crc32(identity.encode('utf-8', 'surrogateescape')):08x}"
