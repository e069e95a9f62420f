"""A call as a plain document and back: all of its fields, typed and versioned. Its legs are no business of it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Final, get_type_hints

import msgspec

from pbx_signaling.calls.machine import Call
from pbx_signaling.calls.state import CallPolicy

VERSION: Final = 3
NOT_STORED: Final = frozenset({"policy", "pending", "conclusions"})
"""Settings of the instance, and what a step hands out or deals with before it ends: both lists are empty then."""
_FIELDS: Final = tuple(field.name for field in fields(Call) if field.name not in NOT_STORED)
_HINTS: Final[dict[str, Any]] = {}


def freeze(call: Call) -> dict[str, Any]:
    """The fields of a call by name, as they are between two steps."""
    return {"version": VERSION} | {name: getattr(call, name) for name in _FIELDS}


def thaw(document: bytes | msgspec.Raw, policy: CallPolicy) -> Call:
    """The call of an encoded document of `freeze` (MessagePack). Raises ValueError where it is none of this version."""
    try:
        stored = msgspec.msgpack.decode(document, type=dict[str, msgspec.Raw])
        if msgspec.msgpack.decode(stored["version"]) != VERSION:
            raise ValueError("a snapshot of another version")
        hints = _hints()
        values = {name: msgspec.msgpack.decode(stored[name], type=hints[name]) for name in _FIELDS}
    except (msgspec.MsgspecError, KeyError) as error:
        raise ValueError(f"no snapshot: {error}") from error
    return Call(policy=policy, **values)


def _hints() -> dict[str, Any]:
    if not _HINTS:
        _HINTS.update(get_type_hints(Call))
    return _HINTS
