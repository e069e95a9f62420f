"""The relay's word in Redis: its lease, by which signaling finds it, and `relay.state_changed` in the outbox.

The one place besides `api/` that knows proto types. Redis may be away for as long as it likes: calls go on,
the lease expires for those who look for new slots, and is written again when Redis is back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from ulid import ULID

from pbx.events.v1 import events_pb2
from pbx.relay.v1 import relay_pb2 as pb
from pbx_media_relay.identity import Identity
from pbx_media_relay.recording.messages import Stored
from pbx_runtime import errors, logs
from pbx_runtime.trace import call_traceparent

LEASE_TTL_S: Final = 5
RENEW_S: Final = 1.5
"""Three tries inside the time to live."""
INDEX_KEY: Final = "relay:index"
OUTBOX_KEY: Final = "evt:outbox"
_log = logs.get_logger("lease")


class Redis(Protocol):
    """What is used of `PipelinedRedis`."""

    def transaction(
        self,
        commands: list[tuple[bytes | str | int | float, ...]],
        callback: Callable[[object, errors.ServiceError | None], None],
    ) -> object:
        """Send MULTI, the commands, EXEC."""


class Announcer:
    """Writes the lease, and an event whenever the state changes."""

    def __init__(self, redis: Redis, identity: Identity, source: str) -> None:
        self._redis = redis
        self._identity = identity
        self._source = source
        self.grpc_address = ""
        """host:port under which signaling reaches this relay; known once the server listens."""
        self._state = ""
        self._failing = False

    def __repr__(self) -> str:
        return f"<Announcer {self._identity.relay_id} {self._state or 'silent'}>"

    @property
    def key(self) -> str:
        """The lease's key."""
        return f"relay:lease:{self._identity.relay_id}"

    def announce(self, status: pb.RelayStatus, calls: int, now_ms: int) -> None:
        """Renew the lease; where the state changed, say so in the same transaction."""
        lease = pb.RelayLease(status=status, grpc_address=self.grpc_address, node=self._identity.node)
        state = "draining" if status.state == pb.RELAY_STATE_DRAINING else "ready"
        expiry_ms = now_ms + LEASE_TTL_S * 1000
        commands: list[tuple[bytes | str | int | float, ...]] = [
            ("SET", self.key, lease.SerializeToString(), "EX", LEASE_TTL_S),
            ("ZADD", INDEX_KEY, expiry_ms, self._identity.relay_id),
        ]
        if state != self._state:
            commands.append(self._event(state, calls, now_ms))
        self._write(commands, state)

    def withdraw(self, calls: int, now_ms: int) -> None:
        """The relay goes: nobody is to find it any more."""
        if self._state == "gone":
            return
        removal = [("DEL", self.key), ("ZREM", INDEX_KEY, self._identity.relay_id)]
        self._write([*removal, self._event("gone", calls, now_ms)], "gone")

    def recording_stored(self, call_id: str, file: Stored, now_ms: int) -> None:
        """Tell that a recording's file was closed. Not counted among the call's events: signaling counts
        those."""
        event = events_pb2.Event(id=str(ULID()), at_ms=now_ms, call_id=call_id, source=self._source)
        event.traceparent = call_traceparent(call_id, event.id)
        event.recording_stored.path = file.path
        event.recording_stored.duration_ms = file.duration_ms
        event.recording_stored.bytes = file.bytes
        event.recording_stored.relay_id = self._identity.relay_id
        self._write([("XADD", OUTBOX_KEY, "*", "e", event.SerializeToString())], self._state)

    def _event(self, state: str, calls: int, now_ms: int) -> tuple[str, str, str, str, bytes]:
        event = events_pb2.Event(id=str(ULID()), at_ms=now_ms, source=self._source)
        event.relay_state_changed.relay_id = self._identity.relay_id
        event.relay_state_changed.state = state
        event.relay_state_changed.calls = calls
        return ("XADD", OUTBOX_KEY, "*", "e", event.SerializeToString())

    def _write(self, commands: list[tuple[bytes | str | int | float, ...]], state: str) -> None:
        def written(reply: object, error: errors.ServiceError | None) -> None:
            if error is None:
                self._state = state
                if self._failing:
                    _log.info("lease written again")
            elif not self._failing:
                _log.warning("lease not written: relaying goes on", error=str(error))
            self._failing = error is not None

        self._redis.transaction(commands, written)
