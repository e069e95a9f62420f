"""What a user agent writes of itself into the messages that its usages make."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pbx_sip.address import Flow
from pbx_sip.tokens import TokenSource
from pbx_sip.transaction.timers import DEFAULT, Timers
from pbx_sip.usage.output import Pairs


def no_fields(method: str) -> Pairs:
    """No further header fields."""
    return ()


@dataclass(frozen=True, slots=True)
class Origin:
    """One user agent: its identifiers, its timers, and how it names itself on a flow."""

    tokens: TokenSource
    via: Callable[[Flow, str], str]
    """Flow and branch to a Via value."""
    contact: Callable[[Flow], str]
    """Flow to a Contact value."""
    timers: Timers = DEFAULT
    fields: Callable[[str], Pairs] = no_fields
    """Method to the fields that each request of it carries: Allow, Supported, User-Agent."""

    def new_via(self, flow: Flow) -> str:
        """A Via value with a fresh branch."""
        return self.via(flow, self.tokens.branch())


def at_address(tokens: TokenSource, sent_by: str, contact: str, timers: Timers = DEFAULT) -> Origin:
    """A user agent that is reached at one address over every flow: a phone."""

    def via(flow: Flow, branch: str) -> str:
        return f"SIP/2.0/{flow.transport.token} {sent_by};rport;branch={branch}"

    return Origin(tokens, via, lambda flow: contact, timers)
