"""The relay process: the only place that constructs its parts, orders their start and their end."""

from __future__ import annotations

import asyncio
import random
import resource
from typing import Final

from pbx.relay.v1 import relay_pb2_grpc
from pbx_media_relay import events
from pbx_media_relay.api.grpc import RelayServicer
from pbx_media_relay.api.operations import Operations
from pbx_media_relay.civil import CivilTime
from pbx_media_relay.datapath.select import Selection, Wanted, select
from pbx_media_relay.identity import Identity
from pbx_media_relay.journal import FileJournal
from pbx_media_relay.observe import Observer
from pbx_media_relay.outbox import RENEW_S, Announcer
from pbx_media_relay.ports import Shard, SlotPool
from pbx_media_relay.probe import EchoProbe
from pbx_media_relay.recording.messages import Stored
from pbx_media_relay.recording.recorder import Recorder
from pbx_media_relay.relay import Relay
from pbx_media_relay.reports import Reports
from pbx_media_relay.settings import RelaySettings
from pbx_media_relay.shard import ShardFile, check_descriptors, check_ephemeral
from pbx_runtime import logs
from pbx_runtime.address import Listen, UnixSocket
from pbx_runtime.grpc_credentials import credentials_of
from pbx_runtime.grpc_server import serve_grpc
from pbx_runtime.http import serve_http, system_app
from pbx_runtime.lifecycle import Lifecycle
from pbx_runtime.redis_pipe import PipelinedRedis

TICK_S: Final = 0.5
"""How often rests, leases and silences are looked at; the contract allows one state message a second."""
TICKS_PER_STATUS: Final = 2
SPARE_S: Final = 3.0
"""Of the time that a stop may take, what is kept for closing servers after the last call."""
FLUSH_S: Final = 1.0
"""How long the end waits for Redis to take the last calls' figures; part of `SPARE_S`."""
_log = logs.get_logger("app")


class App:
    """The parts, joined."""

    def __init__(self, settings: RelaySettings, lifecycle: Lifecycle, selection: Selection) -> None:
        self.settings = settings
        self._lifecycle = lifecycle
        self.civil = CivilTime()
        self.observer = Observer(lifecycle.registry)
        # Under a random name nobody would ever read it again.
        self.journal = _journal(settings) if settings.relay_id else None
        pool = SlotPool(settings.relay_ports, random.SystemRandom())
        self.recorder = Recorder(settings.recordings, self._stored, settings.recording_bounds)
        self.redis = PipelinedRedis(settings.redis_url)
        source = f"media-relay/{settings.name}"
        self.reports = Reports(self.redis, settings.name, source, self.civil)
        self.relay = Relay(
            pool,
            selection.datapath,
            media_timeout_s=settings.relay_media_timeout_s,
            tell=self._tell,
            journal=self.journal,
            tap=self.recorder,
            rules=settings.rules(),
            report=self.reports.report,
        )
        self.identity = Identity(settings.name, settings.hosts, selection.datapath.name, settings.relay_node)
        self.operations = Operations(self.relay, self.identity, self.civil, settings.shutdown_s, self.recorder)
        self.servicer = RelayServicer(self.operations)
        self.announcer = Announcer(self.redis, self.identity, source)
        self.observer.watch(self.relay, self.reports, selection.datapath.name)
        self.probe = EchoProbe(self.relay, settings.relay_bind[0], self.civil.monotonic_ns)
        path = settings.relay_shard_file
        self._shard_file = ShardFile(path, self._reshape) if path else None

    def _tell(self, event: events.RelayEvent) -> None:
        self.observer.tell(event)
        self.servicer.tell(event)

    def _stored(self, call_id: str, file: Stored) -> None:
        self.observer.stored(call_id, file)
        if file.bytes:  # else it was refused, and there is no file to tell of
            self.announcer.recording_stored(call_id, file, self.civil.epoch_ms(self.civil.monotonic_ns()))

    def start(self) -> None:
        """Start relaying, with the calls of a former process of the same name, if there was one."""
        former = self.journal.load() if self.journal else []
        self.relay.start(former, self.civil.monotonic_ns())
        if former:
            _log.info("calls taken up", found=len(former), calls=len(self.relay.calls))

    def _reshape(self, shard: Shard) -> None:
        self.relay.reshape(shard)
        self.check_shard(shard)

    def check_shard(self, shard: Shard) -> None:
        """Look whether this host can bear the shard, and warn."""
        self.observer.ephemeral(check_ephemeral(shard))
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        check_descriptors(shard, len(self.settings.relay_bind), limit)

    def look_at_shard(self) -> None:
        """Take over the shard that the file names, where there is one."""
        if self._shard_file is not None:
            self._shard_file.look()

    async def tick(self) -> None:
        """Look at what is due, for as long as the process lives."""
        count = 0
        while True:
            self.relay.handle_timeout(self.civil.monotonic_ns())
            self.recorder.tick()
            self._show_drain()
            if count % TICKS_PER_STATUS == 0:
                self.servicer.tell_status()
                self.look_at_shard()
            count += 1
            await asyncio.sleep(TICK_S)

    def _show_drain(self) -> None:
        """Readiness is red from the first moment of a drain, whoever ordered it; liveness stays green."""
        if self.relay.drain_deadline_ns is not None:
            self._lifecycle.health.set("draining", False, "draining")

    async def keep_probing(self) -> None:
        """Look at the relay's own echo again and again, for as long as the process lives."""
        while True:
            trouble = await self.probe.look()
            if trouble:
                _log.error("the relay does not echo", reason=trouble)
            self._lifecycle.health.set("echo", not trouble, trouble)
            await asyncio.sleep(self.settings.relay_probe_s)

    async def announce(self, listen: Listen | UnixSocket) -> None:
        """Keep the lease in Redis, now that it is known where the gRPC server listens."""
        self.announcer.grpc_address = self.settings.grpc_address(listen)
        while True:
            self.announce_once()
            await asyncio.sleep(RENEW_S)

    def announce_once(self) -> None:
        """Renew the lease now."""
        now_ms = self.civil.epoch_ms(self.civil.monotonic_ns())
        self.announcer.announce(self.operations.status(), self.operations.calls(), now_ms)

    async def drain(self) -> None:
        """Take no new calls, wait until the last one is over or the deadline comes, then end."""
        now_ns = self.civil.monotonic_ns()
        wait_s = max(self.settings.shutdown_s - SPARE_S, self.settings.shutdown_s / 2)
        self.relay.drain(now_ns + int(wait_s * 1e9), now_ns)
        self._show_drain()
        self.announce_once()
        self.servicer.tell_status()
        # Polled: both the calls and the deadline move while it waits.
        while len(self.relay.calls) and not self._overdue():  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        await self.end()

    def _overdue(self) -> bool:
        return self.civil.monotonic_ns() >= (self.relay.drain_deadline_ns or 0)

    async def end(self) -> None:
        """Close the datapath and leave Redis; says which calls were dropped."""
        now_ns = self.civil.monotonic_ns()
        dropped = self.relay.close(now_ns)
        if self.journal:
            self.journal.close()
        await self.recorder.close()
        self.servicer.close()
        for call_id in dropped:
            _log.warning("call dropped at the end of the drain", call_id=call_id)
        self.announcer.withdraw(len(dropped), self.civil.epoch_ms(now_ns))
        if not await self.reports.flush(FLUSH_S):
            _log.error("media figures not written at the end", count=len(self.reports))
        self.reports.close()


def _journal(settings: RelaySettings) -> FileJournal:
    return FileJournal(settings.data / f"{settings.name}.journal", asyncio.get_running_loop().call_soon)


def raise_descriptor_limit() -> int:
    """Allow as many sockets as this process may have: a slot of the Python datapath takes 8 per family."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


async def service_main(lifecycle: Lifecycle, settings: RelaySettings) -> None:
    """Start everything."""
    _log.info("descriptors", limit=raise_descriptor_limit())
    pins = settings.relay_pins if settings.relay_id else None
    wanted = Wanted(settings.relay_bind, settings.relay_ports, settings.cores, settings.relay_id, pins)
    selection = select(settings.datapath, wanted)
    _log.info("datapath selected", datapath=selection.datapath.name, reason=selection.reason)
    app = App(settings, lifecycle, selection)
    app.check_shard(settings.relay_ports)
    app.look_at_shard()
    app.start()
    lifecycle.start(app.redis.run(), "redis")
    listen = await serve_grpc(
        lifecycle,
        settings.grpc_listen,
        lambda server: relay_pb2_grpc.add_RelayServiceServicer_to_server(app.servicer, server),
        credentials=credentials_of(settings),
    )
    await serve_http(lifecycle, system_app(lifecycle.health, lifecycle.registry), settings.http_listen)
    lifecycle.start(app.tick(), "tick")
    if settings.relay_probe_s and selection.datapath.name != "null":  # which forwards nothing
        lifecycle.health.set("echo", False, "not looked at yet")
        lifecycle.start(app.keep_probing(), "echo")
    lifecycle.start(app.announce(listen), "lease")
    lifecycle.on_stop(app.drain, "drain")
    _log.info("relay up", ports=str(settings.relay_ports), hosts=list(settings.hosts), grpc=str(listen))
