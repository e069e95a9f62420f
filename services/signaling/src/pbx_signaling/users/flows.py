"""Which users are registered over which connection, so that a broken one takes their bindings with it at once
(RFC 5626 section 4.2.1), unless another connection can be made to them. Pure. UDP is not kept: nothing tells that such
a flow is gone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pbx_sip.address import Flow


class _Held(NamedTuple):
    until: float
    lasting: bool


@dataclass(slots=True)
class RegisteredFlows:
    """Connections of this instance with the addresses-of-record that were registered over them.

    Bounded by the connections and the accounts: an entry needs a REGISTER that was accepted, and goes with its
    connection.
    """

    _flows: dict[Flow, dict[str, _Held]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Connections that carry a registration."""
        return len(self._flows)

    def bind(self, flow: Flow, aor: str, until: float, *, lasting: bool = False) -> None:
        """An address-of-record is registered over a connection until a monotonic time.

        `lasting`: its phone is reached by another connection when this one is gone.
        """
        if flow.connection:
            self._flows.setdefault(flow, {})[aor] = _Held(until, lasting)

    def unbind(self, flow: Flow, aor: str) -> None:
        """It is not any more."""
        aors = self._flows.get(flow)
        if aors is not None and aors.pop(aor, None) is not None and not aors:
            del self._flows[flow]

    def holds(self, flow: Flow, now: float) -> bool:
        """Whether somebody is registered over a connection."""
        aors = self._flows.get(flow)
        return aors is not None and any(held.until > now for held in aors.values())

    def broken(self, flow: Flow, now: float) -> list[str]:
        """Forgets a connection; the addresses-of-record whose bindings go with it."""
        held_by = self._flows.pop(flow, {}).items()
        return [aor for aor, held in held_by if held.until > now and not held.lasting]
