"""The composition root of the events service."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pbx_events.api.auth import Authentication, Tokens
from pbx_events.api.http import make_app
from pbx_events.api.values import Ports
from pbx_events.clients import Bindings, Calls
from pbx_events.dispatch import Dispatch
from pbx_events.reaper import Reaper
from pbx_events.storage.store import Store
from pbx_events.storage.subscription import PENDING
from pbx_events.webhook.delivery import Deliveries
from pbx_runtime import logs
from pbx_runtime.errors import Unavailable
from pbx_runtime.grpc_server import serve_grpc
from pbx_runtime.http import serve_http
from pbx_runtime.redis_pipe import PipelinedRedis

if TYPE_CHECKING:
    from pbx_events.settings import EventsSettings
    from pbx_runtime.lifecycle import Lifecycle

SURVEY_S = 10.0
"""Between two counts of the backlogs: the count reads an index of all deliveries."""

_log = logs.get_logger("app")


class EventsCollector(Collector):
    """Reads the counters of the loops when Prometheus asks."""

    def __init__(self, dispatch: Dispatch, deliveries: Deliveries, reaper: Reaper) -> None:
        self._dispatch = dispatch
        self._reaper = reaper
        self._deliveries = deliveries
        self.backlog: dict[tuple[str, str], int] = {}
        """As counted last."""

    def collect(self) -> Iterator[Metric]:
        """All of them."""
        yield CounterMetricFamily("pbx_events_taken", "Events stored", self._dispatch.taken)
        yield CounterMetricFamily("pbx_events_node_lost", "Calls closed for a vanished owner", self._reaper.closed)
        yield CounterMetricFamily("pbx_events_unreadable", "Stream entries without an event", self._dispatch.unreadable)
        delivered = CounterMetricFamily("pbx_events_delivered", "Webhook deliveries", labels=["webhook"])
        failures = CounterMetricFamily("pbx_events_delivery_failures", "Attempts that failed", labels=["webhook"])
        dead = CounterMetricFamily("pbx_events_dead_letters", "Deliveries given up", labels=["webhook"])
        seconds = CounterMetricFamily("pbx_events_delivery_seconds", "Time spent on attempts", labels=["webhook"])
        for hook_id, endpoint in self._deliveries.endpoints.items():
            delivered.add_metric([hook_id], endpoint.delivered)
            failures.add_metric([hook_id], endpoint.failed)
            dead.add_metric([hook_id], endpoint.dead)
            seconds.add_metric([hook_id], endpoint.seconds)
        yield from (delivered, failures, dead, seconds)
        backlog = GaugeMetricFamily("pbx_events_delivery_backlog", "Deliveries that wait", labels=["webhook"])
        for (hook_id, state), count in self.backlog.items():
            if state == PENDING:
                backlog.add_metric([hook_id], count)
        yield backlog


async def main(lifecycle: Lifecycle, settings: EventsSettings) -> None:
    """Assembles and starts a replica."""
    health = lifecycle.health
    settings.data.mkdir(parents=True, exist_ok=True)
    store = Store(settings.sql_url())
    await store.migrate()
    lifecycle.on_ended(store.close, "store")
    outbox, client = PipelinedRedis(settings.redis_url, name="outbox"), PipelinedRedis(settings.redis_url)
    lifecycle.start(outbox.run(), "outbox connection")
    lifecycle.start(client.run(), "redis connection")
    dispatch = Dispatch(outbox, settings.instance_id, store)
    health.set("outbox", False, "not read yet")
    dispatch.on_state = lambda ok, detail: health.set("outbox", ok, detail)
    deliveries = Deliveries(
        store, lifecycle.start, allow_private=settings.webhook_allow_private, holder=settings.instance_id
    )
    lifecycle.on_stop(deliveries.close, "deliveries")
    dispatch.on_batch = lambda batch: deliveries.wake()

    async def hooks_changed() -> None:
        dispatch.hooks = await store.list_webhooks()
        deliveries.serve(dispatch.hooks)

    deliveries.on_gone = hooks_changed
    await hooks_changed()
    bindings, calls = Bindings(settings.registrar_address), Calls(settings.signaling_addresses)
    lifecycle.on_stop(bindings.close, "bindings")
    lifecycle.on_stop(calls.close, "calls")
    reaper = Reaper(client, store, dispatch.take, lambda: dispatch.is_current)
    collector = EventsCollector(dispatch, deliveries, reaper)
    lifecycle.registry.register(collector)

    async def survey() -> None:
        """Counts backlogs, and hears of subscriptions that other replicas made."""
        while True:
            try:
                collector.backlog = await store.backlog()
                if not store.is_sqlite:
                    await hooks_changed()
            except Unavailable as error:
                _log.warning("the store cannot be surveyed", reason=error.detail)
            await asyncio.sleep(SURVEY_S)

    lifecycle.start(survey(), "survey")
    await serve_grpc(lifecycle, settings.grpc_listen)
    ports = Ports(
        store, bindings, calls, hooks_changed, deliveries.sender.post, deliveries.wake, settings.webhook_allow_private
    )
    tokens = Tokens(settings.api_token, settings.api_read_token)
    if not (tokens.admin or tokens.read or settings.http_listen.is_loopback):
        _log.warning(
            "no API token is configured: only this machine itself may use the API", listen=str(settings.http_listen)
        )
    app = Authentication(make_app(ports, health, lifecycle.registry), tokens)
    await serve_http(lifecycle, app, settings.http_listen)
    lifecycle.start(dispatch.run(), "dispatch")
    lifecycle.start(reaper.run(), "reaper")
