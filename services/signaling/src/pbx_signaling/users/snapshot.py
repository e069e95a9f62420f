"""A live call with its legs as bytes and back: what another instance needs to go on with it.

Of a leg its flow, its dialog and its tags. Transactions are not stored: after a loss they run out on the other side, or
are repeated by it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from pbx_signaling.calls import snapshot
from pbx_sip.message.text import utf8

if TYPE_CHECKING:
    from pbx_signaling.calls.machine import Call
    from pbx_signaling.calls.state import CallPolicy
    from pbx_signaling.legs.leg import Leg
    from pbx_signaling.users.entry import Entry

_encoder: Final = msgspec.msgpack.Encoder()


def leg_state(leg: Leg) -> dict[str, Any]:
    """What is stored of a leg."""
    return {
        "call_id": leg.call_id,
        "flow": leg.flow,
        "dialog": leg.dialog,
        "local_tags": leg.local_tags,
        "user_agent": leg.remote_user_agent,
        "final_status": leg.final_status,
    }


def encode(entry: Entry) -> bytes:
    """The snapshot of a live call (key sig:call:<id>)."""
    document = {
        "call": snapshot.freeze(entry.call),
        "legs": {leg.number: leg_state(leg) for leg in entry.legs()},
    }
    try:
        return _encoder.encode(document)
    except UnicodeEncodeError:
        # Text of a peer that is no UTF-8. Rare, and so are tags among it: what it names is found again all the same.
        return _encoder.encode(_readable(msgspec.to_builtins(document, builtin_types=(bytes,))))


def restore_call(data: bytes, policy: CallPolicy) -> Call:
    """The call logic of a snapshot. Raises ValueError where it is none of this version."""
    try:
        document = msgspec.msgpack.decode(data, type=dict[str, msgspec.Raw])["call"]
    except (msgspec.MsgspecError, KeyError) as error:
        raise ValueError(f"no snapshot: {error}") from error
    return snapshot.thaw(document, policy)


def _readable(value: Any) -> Any:
    """The same with text that can be encoded."""
    if isinstance(value, str):
        return utf8(value)
    if isinstance(value, dict):
        return {key: _readable(each) for key, each in value.items()}
    return [_readable(each) for each in value] if isinstance(value, list | tuple) else value
