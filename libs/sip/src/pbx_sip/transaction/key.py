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

import zlib
from typing import TYPE_CHECKING, Final, NamedTuple

from pbx_sip.message.message import BRANCH_COOKIE, Request, Response

if TYPE_CHECKING:
    from pbx_sip.address import Flow
    from pbx_sip.transaction.events import ClientKey, ServerKey

METHODS: Final = {
    method: method
    for method in (
        *("INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "REGISTER", "PRACK", "UPDATE", "INFO", "MESSAGE"),
        *("REFER", "SUBSCRIBE", "NOTIFY", "PUBLISH"),
    )
}
"""One string for each known method: keys linger for 32 s, and need not hold one each."""

KEEP_STREAM_S: Final = 120
"""Seconds between the keep-alive packets that a peer offers to send (RFC 6223 section 4.3): RFC 5626's figure."""
KEEP_UDP_S: Final = 25
"""The same over UDP, where NATs forget after 30 s (RFC 5626 section 4.4.2: 24 to 29)."""


class Via(NamedTuple):
    """What matching needs of a topmost Via as it came."""

    branch: str
    """Empty where there is none."""
    sent_by: str
    """In lower case."""
    text: str
    """The whole value."""


def take_via(request: Request, flow: Flow) -> Via:
    """Reads the topmost Via of a request and notes in it where the request came from.

    Agrees to keep-alive packets where they are offered (RFC 6223). Adds `received` where sent-by is not the source
    address or `rport` was asked for, and fills `rport` in (RFC 3261 section 18.2.1, RFC 3581 section 4). A
    `received` that the peer wrote itself is replaced.
    """
    items = request.headers.items
    index = next((index for index, item in enumerate(items) if item[0] == "Via"), -1)
    if index < 0:
        return Via("", "", "")
    name, value = items[index]
    text, comma, others = value.partition(",")
    head, *params = text.split(";")
    # "SIP/2.0/UDP host:port": the protocol may hold white space around its slashes, sent-by around its colon.
    words = head.rpartition("/")[2].split()
    sent_by = "".join(words[1:]).lower()
    branch, changed = _note(params, sent_by, flow)
    if changed:
        noted = ";".join((head.rstrip(), *params))
        items[index] = (name, f"{noted},{others}" if comma else noted)
    return Via(branch, sent_by, text)


def _note(params: list[str], sent_by: str, flow: Flow) -> tuple[str, bool]:
    """The branch among `params`; and whether `received` or `rport` were set there."""
    branch = ""
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
            received = changed = True
        elif key == "keep" and not value:
            params[index] = f"keep={KEEP_STREAM_S if flow.transport.reliable else KEEP_UDP_S}"
            changed = True
        elif key == "received":
            params[index] = ""
            received = changed = True
    if received:
        params.append(f"received={remote.host}")
        params[:] = [param for param in params if param]
    return branch, changed or received


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
    method = response.cseq_method
    return response.branch, METHODS.get(method, method)


def merge_identity(request: Request) -> str:
    """What two copies of one request share that took different ways to us (section 8.2.2.2)."""
    return f"{request.call_id} {request.cseq_number} {request.method} {request.from_tag}"


def identity_of_cancelled(cancel: Request) -> str:
    """The `merge_identity` of the INVITE that a CANCEL is for: Call-ID, From-tag and number are the same (9.1)."""
    return f"{cancel.call_id} {cancel.cseq_number} INVITE {cancel.from_tag}"


def stateless_tag(request: Request) -> str:
    """A To-tag that is the same for each copy of a request (section 8.2.7); no secret, and no dialog's."""
    identity = f"{request.call_id} {request.from_tag} {request.branch}"
    return f"{zlib.crc32(identity.encode('utf-8', 'surrogateescape')):08x}"
