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


def down_the_flow(hop: str, flow: Flow) -> Flow:
    """Requests go where the dialog's messages came from, whatever URI says where."""
    return flow


def five_seconds() -> int:
    """A Retry-After for a user agent that meets glare rarely."""
    return 5


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
    route: Callable[[str, Flow], Flow] = down_the_flow
    """The URI of a dialog's next hop, and its flow, to the flow that a request takes."""
    retry_after_s: Callable[[], int] = five_seconds
    """What a peer is told that offers before its last offer was answered: at random, 10 at most (RFC 3261 14.2)."""

    def new_via(self, flow: Flow) -> str:
        """A Via value with a fresh branch."""
        return self.via(flow, self.tokens.branch())


def at_address(tokens: TokenSource, sent_by: str, contact: str, timers: Timers = DEFAULT) -> Origin:
    """A user agent that is reached at one address over every flow: a phone."""

    def via(flow: Flow, branch: str) -> str:
        return f"SIP/2.0/{flow.transport.token} {sent_by};rport;branch={branch}"

    return Origin(tokens, via, lambda flow: contact, timers)
