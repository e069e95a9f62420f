"""The session timer of one leg (RFC 4028): agreed with its peer alone, refreshed by whichever of the two it says.

Each leg of a call has its own: a refresh never crosses the call. `pbx_sip.dialog.session_timer` has the rules; here is
what they mean for messages. A leg without a timer has no such object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pbx_sip.dialog.session_timer import OPTION, Refresher, SessionExpires, SessionPolicy, SessionTimer
from pbx_sip.errors import ParseError, RemoteError
from pbx_sip.message.message import Message, Request, Response, response_to

if TYPE_CHECKING:
    from pbx_sip.message.headers import Headers

RETRY_S: Final = 10.0
"""Between refreshes that were refused for a reason that may pass; a session has at least 45 s for them."""
BUSY_S: Final = 2.0
"""A refresh waits so long for a change of the session that is under way."""


class Session:
    """What a leg and its peer agreed on."""

    __slots__ = ("allows_update", "handle", "policy", "timer")

    def __init__(self, timer: SessionTimer, policy: SessionPolicy, peer: Message, before: Session | None) -> None:
        self.timer = timer
        self.policy = policy
        """What we ask for in the next refresh; raised by a 422."""
        self.allows_update: bool = before is not None and before.allows_update
        """The peer takes UPDATE; else it is refreshed by re-INVITE. What it said last holds."""
        if "Allow" in peer.headers:
            self.allows_update = "UPDATE" in ",".join(peer.headers.all("Allow"))
        self.handle: object = None

    def ask(self, headers: Headers) -> None:
        """Writes what a re-INVITE or UPDATE of ours asks for: the same again (section 7.4)."""
        role = "uac" if self.timer.refresher is Refresher.LOCAL else "uas"
        interval = max(self.timer.interval_s, self.policy.min_se_s)
        put_wish(headers, SessionPolicy(interval, self.policy.min_se_s), role)


def put_wish(headers: Headers, policy: SessionPolicy, role: str = "") -> None:
    """Writes Session-Expires and Min-SE; the refresher is left to the peer where `role` is empty (section 7.1)."""
    headers.append("Session-Expires", str(SessionExpires(policy.interval_s, role)))
    headers.append("Min-SE", str(policy.min_se_s))


def refusal(request: Request, policy: SessionPolicy) -> Response | None:
    """422 to an interval that is too small, 400 to one that cannot be read (section 9); None: go on."""
    if request.first("Session-Expires") is None or not policy.interval_s:
        return None
    try:
        policy.as_uas(request, 0.0)
    except RemoteError as error:
        response = response_to(request, error.status_hint)
        if error.status_hint == 422:
            response.headers.append("Min-SE", str(policy.min_se_s))
        return response
    return None


def grant(
    request: Request, response: Response, policy: SessionPolicy, before: Session | None, now: float
) -> Session | None:
    """Agrees to what an INVITE or UPDATE of the peer asks, in our 2xx; None: no timer (section 9)."""
    headers = request.headers
    if not policy.interval_s:
        return None
    if request.first("Session-Expires") is None and OPTION not in headers.tokens("Supported"):
        return None
    timer, expires = policy.as_uas(request, now)
    if timer is None or expires is None:
        return None
    response.headers.append("Session-Expires", str(expires))
    if expires.refresher == "uac":
        response.headers.append("Require", OPTION)
    return Session(timer, policy, request, before)


def granted(response: Response, policy: SessionPolicy, before: Session | None, now: float) -> Session | None:
    """What a 2xx of the peer to our INVITE or UPDATE agrees to (section 7.2); None: no timer."""
    if response.first("Session-Expires") is None:
        return None
    try:
        timer = policy.as_uac(response, now)
    except ParseError:
        return None
    return None if timer is None else Session(timer, policy, response, before)
