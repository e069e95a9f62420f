"""Challenges and what answers them: whether credentials hold a nonce that this product sent to where they come from.

Whether they are right is not known here: that takes the user's password. Pure.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from pbx_signaling.border.quirk import offered
from pbx_sip.address import network_of
from pbx_sip.auth.digest import Challenge, Credentials, select
from pbx_sip.auth.nonce import LENGTH as NONCE_LENGTH
from pbx_sip.auth.nonce import NonceVerdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pbx_signaling.config import CoreConfig
    from pbx_sip.address import Flow
    from pbx_sip.auth.nonce import NonceMinter
    from pbx_sip.message.message import Request

TRUSTED: Final = "trusted"
"""To whom nonces for peers that speak for many are sent: a phone's next request may come through another of them."""
NONCE_WITHIN: Final = 8_192
"""Octets of a muted source's datagram in which a nonce is looked for."""
_NONCE: Final = re.compile(rf'(?<![^\s,])nonce\s*=\s*"?([0-9a-f]{{{NONCE_LENGTH}}})(?![^\s,"])', re.IGNORECASE)
"""A nonce that may be ours, found without parsing the credentials around it."""


class Challenges:
    """Those of one instance."""

    def __init__(self, config: CoreConfig, nonces: NonceMinter) -> None:
        self.config = config
        self.nonces = nonces
        self._texts: dict[tuple[tuple[str, ...], bool], list[tuple[str, str]]] = {}
        """Challenges without their nonce: as many as there are choices of algorithms."""
        self._sent_last: tuple[str, str, float] = ("", "", 0.0)
        """The nonce that was found good last, its source, and when."""

    # --- asking

    def challenge(self, wall_s: float, source: str, user_agent: str = "", *, stale: bool = False) -> list[str]:
        """Values for WWW-Authenticate or Proxy-Authenticate, those that the phone is known to bear (`quirk`)."""
        nonce = self.mint(wall_s, source)
        return [before + nonce + behind for before, behind in self.texts(user_agent, stale)]

    def mint(self, wall_s: float, source: str) -> str:
        """A new signed nonce, good for requests of that source alone (`nonce_source`)."""
        return self.nonces.mint(wall_s, source)

    def texts(self, user_agent: str, stale: bool) -> Sequence[tuple[str, str]]:
        """What stands before and behind the nonce in each challenge."""
        config = self.config
        algorithms = offered(user_agent, config.algorithms, force=config.force_algorithms)
        found = self._texts.get((algorithms, stale))
        if found is None:
            realm, qop = config.domain, tuple(name for name in config.qop if name != "none")
            made = [Challenge(realm, "\0", algorithm, qop, stale) for algorithm in algorithms]
            found = self._texts[algorithms, stale] = [
                (a, b) for a, _, b in (str(each).partition("\0") for each in made)
            ]
        return found

    # --- what comes back

    def nonce_source(self, flow: Flow) -> str:
        """To whom the nonces of a flow's requests are bound."""
        return TRUSTED if self.speaks_for_many(flow) else network_of(flow.remote.host)

    def speaks_for_many(self, flow: Flow) -> bool:
        """Whether a peer is a proxy or trunk of `PBX_SIP_PROXIES` or `PBX_SIP_TRUSTED`."""
        host = flow.remote.host
        return self.config.proxies.covers(host) or self.config.trusted.covers(host)

    def credentials(self, request: Request, name: str) -> str:
        """The credentials for our realm in header fields of that name; empty where there are none."""
        return self.own(request.headers.all(name))

    def own(self, values: list[str]) -> str:
        """The first of several credentials that is for our realm."""
        return select(values, self.config.domain) if values else ""

    def offers(self, credentials: Credentials) -> bool:
        """Whether credentials use what challenges offer, and nothing weaker."""
        config = self.config
        return credentials.algorithm in config.algorithms and (credentials.quality or "none") in config.qop

    def holds_nonce(self, data: bytes, flow: Flow, now: float, wall_s: float) -> bool:
        """Whether a message, not parsed yet, holds a nonce that was sent to its source."""
        head = data[:NONCE_WITHIN].decode("latin-1")
        return bool(self.nonce_sent(head, self.nonce_source(flow), now, wall_s))

    def plainly_holds_nonce(self, data: bytes, flow: Flow, now: float, wall_s: float) -> bool:
        """Whether a message holds a nonce that was sent to its source, where it is spelled as most phones spell it.

        A cheap look: what answers a challenge is read whole at once. What it misses is looked at as all else.
        """
        at = data.find(b'nonce="')
        while at > 0 and data[at - 1 : at].isalpha():  # cnonce
            at = data.find(b'nonce="', at + 1)
        if at < 0:
            return False
        nonce = data[at + 7 : at + 7 + NONCE_LENGTH].decode("latin-1")
        return self._is_sent(nonce, self.nonce_source(flow), now, wall_s)

    def nonce_sent(self, text: str, source: str, now: float, wall_s: float) -> str:
        """The nonce in a text, where it was sent to the source and is young enough; else empty."""
        found = _NONCE.search(text)
        nonce = found[1] if found is not None else ""
        return nonce if nonce and self._is_sent(nonce, source, now, wall_s) else ""

    def _is_sent(self, nonce: str, source: str, now: float, wall_s: float) -> bool:
        """Whether a nonce was sent to a source and is young enough; that of one message is asked about twice."""
        asked = (nonce, source, now)
        if asked != self._sent_last:
            if self.nonces.check(nonce, wall_s, source) is not NonceVerdict.VALID:
                return False
            self._sent_last = asked
        return True
