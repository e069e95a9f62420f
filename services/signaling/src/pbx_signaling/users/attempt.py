"""What is read from a request that may become a call, or that asks about or writes to a user. Pure."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pbx_signaling.border.asserted import UNCLAIMED, Claim, claim_of
from pbx_sip.auth.digest import Credentials, account_of
from pbx_sip.errors import RemoteError
from pbx_sip.header.name_addr import NameAddr
from pbx_sip.message.uri import Uri
from pbx_sip.swift import swift

if TYPE_CHECKING:
    from collections.abc import Callable

    from pbx_signaling.border.border import Border
    from pbx_signaling.border.challenge import Challenges
    from pbx_signaling.domains import Domains
    from pbx_signaling.identity import Identity
    from pbx_sip.address import Flow, HostPort
    from pbx_sip.message.message import Request

DISPLAY_MAX: Final = 128
"""Characters of a caller's own display name that its callee is shown; as many as an account's may have."""


@swift
@dataclass(frozen=True, slots=True)
class Attempt:
    """What was read from an INVITE that may become a call, from a MESSAGE, or from an OPTIONS about a user."""

    call_id: str
    dialled: str
    aor: str
    claimed: str
    display_name: str
    authorization: str
    """The value of Proxy-Authorization, until it was verified. Never logged."""
    uri: str
    max_forwards: int
    """What the callee's leg gets."""
    source: HostPort
    """Where it came from."""
    nonce_source: str = ""
    """To whom its nonce must have been sent, and one for a challenge of it is."""
    claim: Claim = UNCLAIMED
    """What it says of its sender beside From."""
    body: bytes = b""
    """What credentials with qop=auth-int protect; empty for others."""

    def __repr__(self) -> str:
        """Without the credentials."""
        return f"<Attempt {self.call_id} {self.claimed} -> {self.aor}>"


class Attempts:
    """Reads attempts, as one instance understands them."""

    def __init__(
        self,
        challenges: Challenges,
        domains: Domains,
        border: Border,
        identity: Identity,
        means_us: Callable[[str, str], bool],
    ) -> None:
        """`means_us`: whether a host may be this product, for a peer whose own address has the host given second."""
        self._challenges = challenges
        self._domains = domains
        self._border = border
        self._identity = identity
        self._means_us = means_us

    def read(self, request: Request, flow: Flow, now: float) -> Attempt:
        """Reads what an attempt needs. `validate_request` has been called, so URIs and From can be read."""
        uri = Uri.parse(request.uri)
        caller = NameAddr.parse(request.first("From") or "")
        claimed = Uri.parse(caller.uri)
        aor = self._aor_called(uri, claimed.host)
        claim = claim_of(request, claimed.host.lower(), trusted=self._border.trusts(flow))
        challenges = self._challenges
        authorization = challenges.credentials(request, "Proxy-Authorization") if challenges.config.authenticate else ""
        return Attempt(
            call_id=self._identity.call_id(now),
            dialled=aor.rpartition("@")[0],
            aor=aor,
            claimed=self._claimed(claim, claimed, authorization),
            display_name=caller.display[:DISPLAY_MAX],
            authorization=authorization,
            uri=request.uri,
            max_forwards=max_forwards(request) - 1,
            source=flow.remote,
            nonce_source=challenges.nonce_source(flow),
            claim=claim,
            body=request.body if "auth-int" in authorization.lower() else b"",
        )

    def _aor_called(self, uri: Uri, view: str) -> str:
        """Whom a Request-URI means; somebody at an address that is not ours is nobody here (RFC 3261 16.4): 404."""
        if self._means_us(uri.host, view):
            return self._domains.aor_of(uri)
        return f"{uri.user_unescaped}@{uri.host.lower()}"

    def _claimed(self, claim: Claim, uri: Uri, authorization: str) -> str:
        """The address-of-record that credentials are to prove: that of From, or their own where From tells another.

        From tells nobody where the caller is anonymous; a trusted peer writes there whom it asserts. Another host than
        ours is no account of ours, and what the callee sees as From is written by us anyway.
        """
        domains = self._domains
        is_account = uri.is_sip and domains.is_ours(uri.host)
        if authorization and (claim.anonymous or claim.asserted or not is_account):
            with contextlib.suppress(RemoteError):  # the registrar will refuse them
                return account_of(Credentials.parse(authorization).username, domains.domain)
        with contextlib.suppress(RemoteError):
            return domains.aor_of(uri)
        return f"{uri.user_unescaped}@{domains.domain}"  # a number that is none: of nobody whom credentials prove


def max_forwards(request: Request) -> int:
    """How often a request may still be passed on (RFC 3261 section 20.22); 70 where it does not say."""
    value = request.first("Max-Forwards")
    return int(value) if value is not None and value.isdecimal() and len(value) <= 10 else 70
