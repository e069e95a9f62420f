"""The border between the two legs of a call: which header fields of a message cross it, and how they are written.

Identity crosses between trusted peers alone: what comes from any other is not believed, what goes to any other is
left out (RFC 3325 section 5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pbx_signaling.border.asserted import Claim, Presented, asserted_in, present, privacy_of
from pbx_signaling.border.headers import HeaderPolicy
from pbx_signaling.border.redirect import users_named
from pbx_signaling.border.trust import Trust

if TYPE_CHECKING:
    from collections.abc import Callable

    from pbx_signaling.calls.signals import Carried
    from pbx_sip.address import Flow
    from pbx_sip.message.message import Message, Response

IDENTITY: Final = frozenset({"P-Asserted-Identity", "Privacy"})


class Border:
    """One instance's rules, asked by its legs."""

    __slots__ = ("_domain", "_means_us", "_policy", "_trust")

    def __init__(
        self,
        domain: str,
        policy: HeaderPolicy | None = None,
        trust: Trust | None = None,
        means_us: Callable[[str], bool] = lambda host: False,
    ) -> None:
        """`means_us`: whether an address literal is one of ours."""
        self._means_us = means_us
        self._domain = domain
        self._policy = policy or HeaderPolicy()
        self._trust = trust or Trust()

    def trusts(self, flow: Flow) -> bool:
        """Whether the peer at the end of a flow is in our trust domain."""
        return self._trust.covers(flow.remote.host)

    def presented(
        self, claim: Claim, user: str, flow: Flow, name: str = "", *, proved: bool, own_name: str = ""
    ) -> Presented:
        """Who the sender of an INVITE or MESSAGE is for the peer at the end of a flow."""
        trusted = self.trusts(flow)
        return present(claim, user, name, self._domain, proved=proved, trusted=trusted, own_name=own_name)

    def fields(self, message: Message) -> Carried:
        """What of a peer's message goes to the other leg whoever the peer is."""
        return self._policy.carried(message, self._domain)

    def taken(self, message: Message, flow: Flow) -> Carried:
        """The same, and the identity that a trusted peer asserts."""
        carried = self._policy.carried(message, self._domain)
        if "P-Asserted-Identity" not in message.headers or not self.trusts(flow):
            return carried
        identity = [("P-Asserted-Identity", str(identity)) for identity in asserted_in(message)]
        privacy = privacy_of(message)
        if privacy:
            identity.append(("Privacy", ";".join(privacy)))
        return (*carried, *identity)

    def users_named(self, response: Response) -> tuple[str, ...]:
        """The users of our domain to whom a callee's 3xx sends the call on."""
        return users_named(response, self._domain, self._means_us)

    def put(self, message: Message, carried: Carried, flow: Flow) -> None:
        """Writes what came from the other leg into a message to the peer at the end of a flow."""
        message.headers.extend(self.crossing(carried, flow))

    def crossing(self, carried: Carried, flow: Flow) -> Carried:
        """What of the other leg's header fields the peer at the end of a flow gets."""
        if not carried or self.trusts(flow):
            return carried
        return tuple([item for item in carried if item[0] not in IDENTITY])
