"""Metrics of the events service: the counters of its loops, read when Prometheus asks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from pbx_events.dispatch import Dispatch
from pbx_events.reaper import Reaper
from pbx_events.retention import Retention
from pbx_events.sink.exporter import Exporter
from pbx_events.storage.ledger import Ledger
from pbx_events.webhook.delivery import BUCKETS_S, Deliveries, Endpoint


@dataclass(frozen=True, slots=True)
class RedisMemory:
    """What Redis says of its memory."""

    used_bytes: int
    max_bytes: int
    """At so many it refuses writes; 0: at none."""

    @classmethod
    def of_info(cls, text: bytes) -> RedisMemory:
        """From the answer to INFO memory."""
        lines = (line.partition(":") for line in text.decode("utf-8", "replace").splitlines())
        fields = {name: value for name, _, value in lines}
        return cls(_octets(fields.get("used_memory", "")), _octets(fields.get("maxmemory", "")))


def _octets(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0


def outbox_of(length: int, oldest: list[Any], now_s: float) -> tuple[int, float]:
    """How many events wait, and for how long the oldest does: an entry's id begins with its milliseconds."""
    if not oldest:
        return length, 0.0
    written_ms = int(bytes(oldest[0][0]).partition(b"-")[0])
    return length, max(now_s - written_ms / 1000, 0.0)


def deliveries_of(endpoints: Mapping[str, Endpoint]) -> Iterator[Metric]:
    """What became of attempts, by the endpoint's id."""
    delivered = CounterMetricFamily("pbx_events_delivered", "Webhook deliveries", labels=["webhook"])
    failures = CounterMetricFamily("pbx_events_delivery_failures", "Attempts that failed", labels=["webhook"])
    dead = CounterMetricFamily("pbx_events_dead_letters", "Deliveries given up", labels=["webhook"])
    seconds = HistogramMetricFamily("pbx_events_delivery_seconds", "Time of an attempt", labels=["webhook"])
    for hook_id, endpoint in endpoints.items():
        delivered.add_metric([hook_id], endpoint.delivered)
        failures.add_metric([hook_id], endpoint.failed)
        dead.add_metric([hook_id], endpoint.dead)
        totals = list(accumulate(endpoint.attempts_within))
        buckets = [*zip(map(str, BUCKETS_S), totals, strict=False), ("+Inf", totals[-1])]
        seconds.add_metric([hook_id], buckets, endpoint.seconds)
    yield from (delivered, failures, dead, seconds)


class EventsCollector(Collector):
    """One of a process."""

    def __init__(
        self,
        dispatch: Dispatch,
        deliveries: Deliveries,
        reaper: Reaper,
        exporters: Sequence[Exporter],
        retention: Retention,
        ledger: Ledger,
    ) -> None:
        self._dispatch = dispatch
        self._reaper = reaper
        self._deliveries = deliveries
        self._exporters = exporters
        self._retention = retention
        self._ledger = ledger
        self.backlog: dict[str, int] = {}
        """As counted last."""
        self.outbox: tuple[int, float] | None = None
        """Events that wait in Redis, and for how long the oldest does; None while Redis is away."""
        self.redis_memory: RedisMemory | None = None
        """As asked last."""

    def collect(self) -> Iterator[Metric]:
        """All of them."""
        yield CounterMetricFamily("pbx_events_taken", "Events stored", self._dispatch.taken)
        yield GaugeMetricFamily("pbx_events_reader", "1 in the replica that reads the outbox", self._dispatch.is_reader)
        yield CounterMetricFamily("pbx_events_node_lost", "Calls closed for a vanished owner", self._reaper.closed)
        yield CounterMetricFamily("pbx_events_unstorable", "Events that SQL refused", self._dispatch.unstorable)
        yield CounterMetricFamily("pbx_events_unreadable", "Stream entries without an event", self._dispatch.unreadable)
        missing, late = self._ledger.media_missing, self._ledger.media_late
        yield CounterMetricFamily("pbx_events_media_missing", "CDRs written without their relay's figures", missing)
        yield CounterMetricFamily("pbx_events_media_late", "Media figures that came after their CDR", late)
        if self.outbox is not None:
            waiting, age_s = self.outbox
            yield GaugeMetricFamily("pbx_events_outbox_length", "Events in Redis that are not in SQL yet", waiting)
            yield GaugeMetricFamily("pbx_events_outbox_age_seconds", "How long the oldest of them waits", age_s)
        yield from deliveries_of(self._deliveries.endpoints)
        backlog = GaugeMetricFamily("pbx_events_delivery_backlog", "Deliveries that wait", labels=["webhook"])
        for hook_id, count in self.backlog.items():
            backlog.add_metric([hook_id], count)
        yield backlog
        if self.redis_memory is not None:
            used, most = self.redis_memory.used_bytes, self.redis_memory.max_bytes
            yield GaugeMetricFamily("pbx_events_redis_memory_bytes", "Memory that Redis uses", used)
            yield GaugeMetricFamily("pbx_events_redis_memory_max_bytes", "Where Redis refuses writes, 0: never", most)
        yield from self._sinks()

    def _sinks(self) -> Iterator[Metric]:
        exported = CounterMetricFamily("pbx_events_exported", "CDRs that a sink took", labels=["sink"])
        failures = CounterMetricFamily(
            "pbx_events_export_failures", "Batches that a sink did not take", labels=["sink"]
        )
        waiting = GaugeMetricFamily("pbx_events_export_backlog", "CDRs that wait for a sink", labels=["sink"])
        for exporter in self._exporters:
            exported.add_metric([exporter.sink.name], exporter.exported)
            failures.add_metric([exporter.sink.name], exporter.failures)
            waiting.add_metric([exporter.sink.name], exporter.backlog)
        forgotten = CounterMetricFamily("pbx_events_forgotten", "Rows that were kept long enough", labels=["table"])
        for table, count in self._retention.forgotten.items():
            forgotten.add_metric([table], count)
        yield from (exported, failures, waiting, forgotten)
