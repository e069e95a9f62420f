"""What the load generator plays: registrations and whole calls, as SIPp ladders with injected fields.

field0 is the callee's user, field1 the caller's, field2 SIPp's authentication keyword with the caller's
password (SIPp does not look for fields inside it).
"""

from __future__ import annotations

from support.sipp_script import ANSWER, OFFER, Callee, Caller

HOLD_MS = (50, 1000)
"""A call's length. Below some 50 ms a BYE may overtake the ACK in servers with several worker processes."""
RING_MS = 100
"""Without ringing, 180 and 200 overtake each other in such servers."""


def _caller(domain: str, *, digest: bool) -> Caller:
    return Caller("[field1]", "[field2]" if digest else "", "[field0]", domain=domain, name="load-caller")


def call(domain: str, *, digest: bool) -> str:
    """INVITE (407, INVITE), 180, 200, ACK, a short hold, BYE."""
    caller = _caller(domain, digest=digest).invite(OFFER).maybe(100).maybe(180).maybe(183).answered(trying=False)
    return caller.ack().pause_between(*HOLD_MS).bye().recv(200, trying=False).xml()


def held_call(domain: str, *, digest: bool) -> str:
    """The same, held as long as SIPp's option -d says."""
    caller = _caller(domain, digest=digest).invite(OFFER).maybe(100).maybe(180).maybe(183).answered(trying=False)
    return caller.ack().pause_by_option().bye().recv(200, trying=False).xml()


def called() -> str:
    """180 at once, 200 after `RING_MS`, then until the BYE."""
    return Callee(name="load-callee").ring(180).pause(RING_MS).answer(ANSWER).take("BYE").reply(200).xml()


def register(domain: str, contact_port: int, *, digest: bool) -> str:
    """REGISTER (401, REGISTER), 200; the contact is the called party's port."""
    headers = "Expires: 3600\n"
    caller = Caller("[field1]", "[field2]", "[field1]", domain=domain, name="load-register", contact_port=contact_port)
    caller.outside("REGISTER", headers=headers, to_domain=True)
    if digest:
        caller.outside_again("REGISTER", 401, headers=headers, to_domain=True)
    return caller.recv(200).xml()
