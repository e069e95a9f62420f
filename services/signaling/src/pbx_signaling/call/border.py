"""The border between the two legs of a call: which header fields of a message cross it, and how they are written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pbx_signaling.call.header_policy import Carried, HeaderPolicy

if TYPE_CHECKING:
    from pbx_sip.message.message import Message


class Border:
    """One instance's rules, asked by its legs."""

    __slots__ = ("_domain", "_policy")

    def __init__(self, domain: str, policy: HeaderPolicy | None = None) -> None:
        self._domain = domain
        self._policy = policy or HeaderPolicy()

    def taken(self, message: Message) -> Carried:
        """What of a peer's message goes to the other leg."""
        return self._policy.carried(message, self._domain)


def put(message: Message, carried: Carried) -> None:
    """Writes what came from the other leg."""
    if carried:
        message.headers.items.extend(carried)
