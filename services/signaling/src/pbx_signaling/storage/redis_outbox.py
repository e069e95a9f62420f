"""The outbox in Redis: events of a call and the call's state, in one MULTI/EXEC.

XADD evt:outbox * e <pbx.events.v1.Event>        once for each event
SET  sig:call:<id> <state> EX <longest call>     while it lives; DEL once it is over; neither for events of no call
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pbx_runtime.errors import ServiceError
from pbx_runtime.redis_pipe import PipelinedRedis
from pbx_runtime.redis_script import Argument

STREAM: Final = "evt:outbox"
CALL: Final = "sig:call:"
TIMEOUT_S: Final = 1.0
STATE_S: Final = 86_400
"""How long the state of a call stays whose owner vanished and that nobody adopted: longer than the longest call."""


class RedisOutbox:
    """Writes through the pipelined connection; one callback per batch."""

    def __init__(self, redis: PipelinedRedis) -> None:
        self._redis = redis

    def write(self, call_id: str, events: list[bytes], state: bytes, done: Callable[[bool], None]) -> None:
        """Writes events and state in one transaction; `done(False)` where Redis did not take them (outcome unknown)."""

        def finished(_: object, error: ServiceError | None) -> None:
            done(error is None)

        if not events:
            self._redis.submit("PING", callback=finished, timeout_s=TIMEOUT_S)
            return
        commands: list[tuple[Argument, ...]] = [("XADD", STREAM, "*", "e", event) for event in events]
        if call_id:
            key = CALL + call_id
            commands.insert(0, ("SET", key, state, "EX", STATE_S) if state else ("DEL", key))
        self._redis.transaction(commands, finished, timeout_s=TIMEOUT_S)
