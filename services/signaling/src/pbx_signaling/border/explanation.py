"""What explains a refusal and crosses with it: the header fields without which its status means nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pbx_signaling.calls.refusal import ACCEPTS

if TYPE_CHECKING:
    from pbx_signaling.calls.signals import Carried
    from pbx_sip.message.message import Response

ACCEPTS_MAX: Final = 512
"""Characters of each of them that cross. Threat: one phone's lines in another's memory; phones list some types."""


def explanation_of(response: Response) -> Carried:
    """The header fields without which a refusal means nothing, where it has them."""
    if response.status != 415:
        return ()
    found = ((name, response.first(name) or "") for name in ACCEPTS)
    return tuple((name, value) for name, value in found if value and len(value) <= ACCEPTS_MAX)
