"""The only place that turns what happens into metrics, log lines and security events."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from prometheus_client import Counter, Gauge

from pbx_registrar import outbox
from pbx_registrar.authenticate import Claim, Verdict
from pbx_runtime import logs
from pbx_runtime.logs import Pii

if TYPE_CHECKING:
    from pbx_runtime.metrics import Registry
    from pbx_runtime.redis_pipe import PipelinedRedis

PERIOD_S: Final = 10.0
"""Refusals of a source are told once in this time."""
SOURCES_MAX: Final = 1_000
"""Sources told of in one period; the others are in the metric alone."""
STATUSES: Final = (200, 400, 401, 403, 404, 423, 500)

_log = logs.get_logger("registrar")


class Observer:
    """Counts and tells."""

    def __init__(self, registry: Registry, source: str) -> None:
        registers = Counter("pbx_registrar_registers", "REGISTERs by answer", ["status"], registry=registry)
        self._registers = {status: registers.labels(str(status)) for status in STATUSES}
        verdicts = Counter("pbx_registrar_authentications", "Digests by verdict", ["verdict"], registry=registry)
        self._verdicts = {verdict: verdicts.labels(verdict.name.lower()) for verdict in Verdict}
        self.bindings = Gauge("pbx_registrar_aors", "Addresses-of-record with bindings", registry=registry)
        self.expired = Counter("pbx_registrar_bindings_expired", "Bindings that ran out", registry=registry)
        self._source = source
        self._refused: dict[str, tuple[str, str, int]] = {}

    def registered(self, status: int) -> None:
        """A REGISTER was answered."""
        self._registers[status].inc()

    def authenticated(self, verdict: Verdict) -> None:
        """A digest was judged."""
        self._verdicts[verdict].inc()

    def refused(self, claim: Claim, user: str) -> None:
        """Wrong credentials: told later, counted by source."""
        host = claim.source_host
        if host in self._refused or len(self._refused) < SOURCES_MAX:
            self._refused[host] = (user[:128], claim.method, self._refused.get(host, ("", "", 0))[2] + 1)

    async def tell_refusals(self, redis: PipelinedRedis) -> None:
        """Writes one event for each source that was refused, every period; until cancelled."""
        while True:
            await asyncio.sleep(PERIOD_S)
            refused, self._refused = self._refused, {}
            now_ms = int(time.time() * 1000)
            for host, (user, method, count) in refused.items():
                _log.warning("credentials refused", source=Pii(host), user=Pii(user), method=method, count=count)
                event = outbox.auth_failed(host, user, count, method, self._source, now_ms)
                redis.submit("XADD", "evt:outbox", "*", "e", event, callback=_ignore)


def _ignore(reply: object, error: object) -> None:
    """Counted in the metric all the same."""
