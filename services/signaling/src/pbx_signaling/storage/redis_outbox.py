"""The outbox in Redis: events of a call and the call's state, in one MULTI/EXEC.

XADD evt:outbox * e <pbx.events.v1.Event>        once for each event
SET  sig:call:<id> <state> EX <longest call>     while it lives; DEL once it is over
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pbx_runtime.errors import ServiceError
from pbx_runtime.redis_pipe import PipelinedRedis

STREAM: Final = "evt:outbox"
TIMEOUT_S: Final = 1.0


class RedisOutbox:
    """Writes through the pipelined connection; one callback per batch."""

    def __init__(self, redis: PipelinedRedis) -> None:
        self._redis = redis

    def write(self, call_id: str, events: list[bytes], over: bool, done: Callable[[bool], None]) -> None:
        """Writes events in one transaction; `done(False)` where Redis did not take them (outcome unknown)."""

        def finished(_: object, error: ServiceError | None) -> None:
            done(error is None)

        if not events:
            self._redis.submit("PING", callback=finished, timeout_s=TIMEOUT_S)
        elif len(events) == 1:
            self._redis.submit("XADD", STREAM, "*", "e", events[0], callback=finished, timeout_s=TIMEOUT_S)
        else:
            commands = [("XADD", STREAM, "*", "e", event) for event in events]
            self._redis.transaction(commands, finished, timeout_s=TIMEOUT_S)
