"""The composition root of the events service."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from pbx_events.api.auth import Authentication, Tokens
from pbx_events.api.http import make_app
from pbx_events.api.values import Ports
from pbx_events.clients import Bindings, Calls
from pbx_events.dispatch import Dispatch
from pbx_events.reaper import Reaper
from pbx_events.storage.store import Store
from pbx_events.webhook.delivery import Deliveries
from pbx_runtime import logs
from pbx_runtime.grpc_server import serve_grpc
from pbx_runtime.http import serve_http

if TYPE_CHECKING:
    from pbx_events.settings import EventsSettings
    from pbx_runtime.lifecycle import Lifecycle
from pbx_runtime.redis_pool import open_redis

_log = logs.get_logger("app")


class EventsCollector(Collector):
    """Reads the counters of the loops when Prometheus asks."""

    def __init__(self, dispatch: Dispatch, deliveries: Deliveries, reaper: Reaper) -> None:
        self._dispatch = dispatch
        self._reaper = reaper
        self._deliveries = deliveries

    def collect(self) -> Iterator[CounterMetricFamily]:
        """All of them."""
        yield CounterMetricFamily("pbx_events_taken", "Events stored", self._dispatch.taken)
        yield CounterMetricFamily("pbx_events_node_lost", "Calls closed for a vanished owner", self._reaper.closed)
        yield CounterMetricFamily("pbx_events_unreadable", "Stream entries without an event", self._dispatch.unreadable)
        yield CounterMetricFamily("pbx_events_delivered", "Webhook deliveries", self._deliveries.delivered)
        yield CounterMetricFamily("pbx_events_delivery_failures", "Attempts that failed", self._deliveries.failed)


async def main(lifecycle: Lifecycle, settings: EventsSettings) -> None:
    """Assembles and starts a replica."""
    health = lifecycle.health
    settings.data.mkdir(parents=True, exist_ok=True)
    store = Store(settings.sql_url())
    await store.migrate()
    lifecycle.on_stop(store.close, "store")
    client = open_redis(settings.redis_url, command_s=None)
    lifecycle.on_stop(client.aclose, "redis")
    dispatch = Dispatch(client, settings.instance_id, store)
    health.set("outbox", False, "not read yet")
    dispatch.on_state = lambda ok, detail: health.set("outbox", ok, detail)
    deliveries = Deliveries(store, lifecycle.start, allow_private=settings.webhook_allow_private)
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
    lifecycle.registry.register(EventsCollector(dispatch, deliveries, reaper))
    await serve_grpc(lifecycle, settings.grpc_listen)
    ports = Ports(
        store, bindings, calls, hooks_changed, deliveries.post, deliveries.wake, settings.webhook_allow_private
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
