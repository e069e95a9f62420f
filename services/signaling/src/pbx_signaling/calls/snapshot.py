"""A live call as bytes and back: what another instance needs to go on with it.

Call logic is stored whole but for what a step has not handed out yet; of a leg its flow, its dialogs and tags.
Transactions are not stored: after a loss they run out on the other side, or are repeated by it.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final, get_type_hints

import msgspec

from pbx_signaling.calls.machine import Call
from pbx_signaling.calls.state import CallPolicy
from pbx_sip.message.text import utf8

if TYPE_CHECKING:
    from pbx_signaling.legs.leg import Leg
    from pbx_signaling.users.entry import Entry

VERSION: Final = 2
_NOT_STORED: Final = frozenset({"pending", "policy", "found"})
_encoder = msgspec.msgpack.Encoder()


def call_state(call: Call) -> dict[str, Any]:
    """The fields of a call by name."""
    return {name: getattr(call, name) for name in _FIELDS}


_FIELDS: Final = tuple(field.name for field in fields(Call) if field.name not in _NOT_STORED)


def leg_state(leg: Leg | None) -> dict[str, Any] | None:
    """What is stored of a leg."""
    if leg is None:
        return None
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
        "version": VERSION,
        "call": call_state(entry.call),
        "caller": leg_state(entry.caller),
        "callee": leg_state(entry.callee),
    }
    try:
        return _encoder.encode(document)
    except UnicodeEncodeError:
        # Text of a peer that is no UTF-8. Rare, and so are tags among it: what it names is found again all the same.
        return _encoder.encode(_readable(msgspec.to_builtins(document, builtin_types=(bytes,))))


def _readable(value: Any) -> Any:
    """The same with text that can be encoded."""
    if isinstance(value, str):
        return utf8(value)
    if isinstance(value, dict):
        return {key: _readable(each) for key, each in value.items()}
    return [_readable(each) for each in value] if isinstance(value, list | tuple) else value


def restore_call(data: bytes, policy: CallPolicy) -> Call:
    """The call logic of a snapshot. Raises ValueError where it is none of this version."""
    try:
        document = msgspec.msgpack.decode(data, type=dict[str, msgspec.Raw])
        if msgspec.msgpack.decode(document["version"]) != VERSION:
            raise ValueError("a snapshot of another version")
        state = msgspec.msgpack.decode(document["call"], type=dict[str, msgspec.Raw])
        hints = _hints()
        values = {name: msgspec.msgpack.decode(state[name], type=hints[name]) for name in _FIELDS}
    except (msgspec.MsgspecError, KeyError) as error:
        raise ValueError(f"no snapshot: {error}") from error
    return Call(policy=policy, **values)


def _hints() -> dict[str, Any]:
    if not _HINTS:
        _HINTS.update(get_type_hints(Call))
    return _HINTS


_HINTS: Final[dict[str, Any]] = {}
