"""The composition root of the events service."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from pbx_events.api.auth import Authentication, Configured, Named
from pbx_events.api.http import make_app
from pbx_events.api.limit import Limits
from pbx_events.api.request_id import RequestIds
from pbx_events.api.values import Ports
from pbx_events.clients import Bindings, Calls
from pbx_events.dispatch import STREAM, Dispatch
from pbx_events.instances import Given, Leases
from pbx_events.observe import EventsCollector, RedisMemory, outbox_of
from pbx_events.overdue import Overdue
from pbx_events.reaper import Reaper
from pbx_events.retention import Days, Retention
from pbx_events.sink.base import Sink
from pbx_events.sink.exporter import Exporter
from pbx_events.sink.http import HttpBatch
from pbx_events.sink.jsonl import JsonLines
from pbx_events.storage.store import Store
from pbx_events.webhook.delivery import Deliveries
from pbx_runtime import logs
from pbx_runtime.errors import ServiceError, Unavailable
from pbx_runtime.grpc_credentials import credentials_of
from pbx_runtime.grpc_server import serve_grpc
from pbx_runtime.http import serve_http
from pbx_runtime.redis_pipe import PipelinedRedis

if TYPE_CHECKING:
    from pbx_events.settings import EventsSettings
    from pbx_runtime.lifecycle import Lifecycle

SURVEY_S = 10.0
"""Between two counts of the backlogs: the count reads an index of all deliveries."""

_log = logs.get_logger("app")


def sinks_of(settings: EventsSettings) -> list[Sink]:
    """Where the settings want CDRs to go besides the table."""
    sinks: list[Sink] = []
    if settings.cdr_file_dir is not None:
        sinks.append(JsonLines(settings.cdr_file_dir, settings.cdr_file_keep))
    if settings.cdr_http_url:
        sinks.append(HttpBatch(settings.cdr_http_url, settings.cdr_http_token))
    return sinks


def start_sinks(lifecycle: Lifecycle, store: Store, settings: EventsSettings) -> list[Exporter]:
    """From now on CDRs go there too."""
    exporters = [Exporter(store, sink, settings.instance_id) for sink in sinks_of(settings)]
    store.sinks = tuple(exporter.sink.name for exporter in exporters)

    async def let_go() -> None:
        for exporter in exporters:
            await exporter.close()
        await store.let_go(settings.instance_id)

    lifecycle.on_ended(let_go, "sinks")
    for exporter in exporters:
        lifecycle.start(exporter.run(), f"sink {exporter.sink.name}")
    return exporters


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
    credentials = credentials_of(settings)
    instances = Given(settings.signaling_addresses) if settings.signaling_addresses else Leases(client)
    bindings, calls = Bindings(settings.registrar_address, credentials), Calls(instances, credentials)
    lifecycle.on_stop(bindings.close, "bindings")
    lifecycle.on_stop(calls.close, "calls")
    reaper = Reaper(client, store, dispatch.take, lambda: dispatch.is_current)
    overdue = Overdue(store, lambda: dispatch.is_current, deliveries.wake)
    exporters = start_sinks(lifecycle, store, settings)
    retention = Retention(store, Days(settings.cdr_days, settings.event_days), settings.instance_id)
    collector = EventsCollector(dispatch, deliveries, reaper, exporters, retention, store)
    lifecycle.registry.register(collector)

    async def look_at_redis() -> None:
        try:
            collector.redis_memory = RedisMemory.of_info(await client.submit("INFO", "memory"))
            collector.outbox = outbox_of(
                await client.submit("XLEN", STREAM),
                await client.submit("XRANGE", STREAM, "-", "+", "COUNT", 1),
                time.time(),
            )
        except ServiceError:
            collector.outbox = None
            collector.redis_memory = None  # away, which others tell, or a server that does not let us ask

    async def survey() -> None:
        """Counts backlogs, and hears of subscriptions that other replicas made."""
        while True:
            await look_at_redis()
            try:
                collector.backlog = await store.waiting()
                for exporter in exporters:
                    await exporter.count()
                if not store.is_sqlite:
                    await hooks_changed()
            except Unavailable as error:
                _log.warning("the store cannot be surveyed", reason=error.detail)
            await asyncio.sleep(SURVEY_S)

    lifecycle.start(survey(), "survey")
    await serve_grpc(lifecycle, settings.grpc_listen, credentials=credentials)
    named = Named(store)
    ports = Ports(
        store,
        bindings,
        calls,
        hooks_changed,
        deliveries.sender.post,
        deliveries.wake,
        lifecycle.stopping,
        settings.webhook_allow_private,
        named.forget,
    )
    tokens = Configured(settings.api_token, settings.api_read_token)
    if not (tokens.admin or tokens.read or settings.http_listen.is_loopback):
        _log.warning(
            "no API token is configured: only this machine itself, and named tokens, may use the API",
            listen=str(settings.http_listen),
        )
    api = make_app(ports, health, lifecycle.registry)
    app = RequestIds(Authentication(api, tokens, named, Limits(settings.api_rate)))
    await serve_http(lifecycle, app, settings.http_listen)
    lifecycle.start(dispatch.run(), "dispatch")
    lifecycle.start(reaper.run(), "reaper")
    lifecycle.start(overdue.run(), "overdue")
    lifecycle.start(retention.run(), "retention")
