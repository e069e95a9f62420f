"""The composition root of signaling: constructs everything, starts it in order, and ends it in order."""

from __future__ import annotations

import asyncio
import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from pbx.signaling.v1 import signaling_pb2_grpc
from pbx_runtime import logs
from pbx_runtime.address import Listen
from pbx_runtime.errors import ServiceError
from pbx_runtime.grpc_credentials import credentials_of
from pbx_runtime.grpc_server import serve_grpc
from pbx_runtime.http import serve_http, system_app
from pbx_runtime.redis_pipe import PipelinedRedis
from pbx_signaling.api.grpc import SignalingService
from pbx_signaling.api.peer_link import PeerLinkService
from pbx_signaling.clients.discovery import Discovery
from pbx_signaling.clients.known import KnownUsers
from pbx_signaling.clients.lease import Lease, Living
from pbx_signaling.clients.peers import Peers
from pbx_signaling.clients.registrar import GrpcRegistrar
from pbx_signaling.clients.relay import Relays
from pbx_signaling.clients.siblings import Siblings
from pbx_signaling.core import Core, Surroundings
from pbx_signaling.driver import Driver
from pbx_signaling.effects.encode import Encoder
from pbx_signaling.effects.perform import Executor
from pbx_signaling.effects.write_ahead import Journal
from pbx_signaling.identity import Identity
from pbx_signaling.observe import CoreCollector, KeepAliveCollector, Observer
from pbx_signaling.replicas.board import OCTETS, Board
from pbx_signaling.replicas.peering import Carriage, Peering, is_remote
from pbx_signaling.replicas.switch import Switch
from pbx_signaling.router.addressing import Addressing
from pbx_signaling.settings import core_config, own_addresses
from pbx_signaling.storage.redis_outbox import RedisOutbox
from pbx_signaling.transport.inherited import shared_memory
from pbx_signaling.transport.listeners import Listeners
from pbx_signaling.transport.observe import TransportCollector
from pbx_signaling.users.keepalive import Finding, takes_over
from pbx_sip.auth.nonce import NonceMinter
from pbx_sip.tokens import RandomTokens

if TYPE_CHECKING:
    from collections.abc import Coroutine

    import grpc.aio

    from pbx_runtime.lifecycle import Lifecycle
    from pbx_signaling.calls.signals import Signal
    from pbx_signaling.replicas.frame import Frame
    from pbx_signaling.settings import SignalingSettings
    from pbx_signaling.users.step import Ask
    from pbx_sip.address import Flow

INCARNATION: Final = f"{time.time_ns() // 1_000_000:x}"
"""Tells this process from the one before it of the same id: in the source of its events, and in key sig:run:<id>."""
LAST_WORDS_S: Final = 5.0
"""How long BYEs and events may take when the process ends."""
DETAIL_MAX: Final = 200
"""Characters of an error of Redis that /readyz repeats."""
UNREGISTER_TRIES: Final = 5
"""Within half a minute; what is left then expires with the registration."""

_log = logs.get_logger("signaling")


class Signaling:
    """One instance, assembled."""

    def __init__(self, lifecycle: Lifecycle, settings: SignalingSettings) -> None:
        self._lifecycle = lifecycle
        self._settings = settings
        self._health = lifecycle.health
        instance = settings.instance_id
        key = bytes.fromhex(settings.nonce_key.get_secret_value()) if settings.nonce_key else os.urandom(32)
        config = core_config(settings)
        loop = asyncio.get_running_loop()
        source = f"signaling/{instance}.{INCARNATION}"
        identity = Identity(RandomTokens(instance, os.urandom), instance, lambda: time.time() - loop.time())
        self._credentials = credentials_of(settings)
        self.addressing = Addressing(instance)
        self.redis = PipelinedRedis(settings.redis_url, on_state=partial(self._health_of, "redis"))
        self.observer = Observer(lifecycle.registry)
        self._siblings = Siblings(instance, settings.siblings, self._came, self._broken, self._sibling_lost)
        self.peers = Peers(instance, self.redis, self._broken, self._start_link, self._credentials, self._siblings)
        self.peering = Peering(instance, self.peers, siblings=self._siblings.names)
        self.addressing.family = self._siblings.names
        self.addressing.peers = self.peering.alive
        board = board_of(settings)
        nonces = NonceMinter(key, os.urandom)
        self.core = Core(
            Surroundings(
                config=config,
                addressing=self.addressing,
                identity=identity,
                nonces=nonces,
                encoder=Encoder(source, identity.wall_ms, self.observer.recorded),
                unregister=self._unregister,
                report=self._found,
                peering=self.peering,
                counts=board,
                keepalive_s=settings.sip_keepalive_s,
                keepalive_all=settings.sip_keepalive_all,
            )
        )
        self.registrar = GrpcRegistrar(settings.registrar_address, instance, self._registrar_changed, self._credentials)
        self.known = KnownUsers(self.registrar, self.redis, nonces, settings.offer, settings.known)
        self.relays = Relays(instance, self._signal, self._relays_ready, self._credentials, config.calls.barred.add_own)
        self.executor = Executor(self.known.informed, self.relays, self._answered)
        self.journal = Journal(RedisOutbox(self.redis), self._transmit, self.executor.ask, loop)
        self.journal.on_ready = self._journal_ready
        self.driver = Driver(self.core.router, self.journal.perform, self.executor.ask, loop)
        self.lease = Lease(
            self.redis,
            Living(instance, str(settings.grpc_listen), INCARNATION),
            kept=self._lease_kept,
            seen=self._replicas_seen,
            found=self._replica_found,
        )
        self._known_replicas: frozenset[str] | None = None
        """Those with whom the bindings to be kept alive were shared out last."""
        self.switch = Switch(
            self.peering,
            self._siblings,
            receive=self.driver.received,
            take=self.addressing.take,
            knows=self.core.router.awaits_cancel,
            budget=self._may_ask,
            spreads=self.core.challenges.speaks_for_many,
            notes=board,
        )
        self._listeners = Listeners(settings, self.addressing, self.switch.received, self._broken, self._is_registered)
        self.addressing.is_open = self._listeners.is_open
        for host, port in own_addresses(settings):
            self.addressing.note_own(host, [port])
        self._relay_tasks: dict[str, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Starts everything; the SIP port opens last."""
        lifecycle, settings = self._lifecycle, self._settings
        for name in ("redis", "registrar", "relay"):
            self._health.set(name, False, "not connected yet")
        lifecycle.start(self.redis.run(), "redis")
        lifecycle.start(self.registrar.client.run(), "registrar")
        lifecycle.start(self.known.stream.run(), "directory")
        lifecycle.on_stop(self.registrar.close, "registrar")
        for address in settings.relays:
            self._relay_came(address)
        if not settings.relays:
            discovery = Discovery(self.redis, self._relay_came, self._relay_went)
            lifecycle.start(discovery.run(), "discovery")
        lifecycle.start(self.lease.run(), "lease")
        collector = CoreCollector(self.core, self.journal, self.relays)
        lifecycle.registry.register(collector)
        lifecycle.registry.register(KeepAliveCollector(self.core.keepalive))
        lifecycle.registry.register(self.known.collector)
        service = SignalingService(self.core.calls, settings.instance_id, self._signal)
        await serve_grpc(
            lifecycle,
            settings.grpc_listen,
            lambda server: self._add_services(server, service),
            credentials=self._credentials,
        )
        await serve_http(lifecycle, system_app(self._health, lifecycle.registry), settings.http_listen)
        self._siblings.open()
        await self._listeners.open()
        lifecycle.registry.register(
            TransportCollector(self._listeners, self.core.registrations.flows, self.peering, self.peers, self.switch)
        )
        lifecycle.on_stop(self._end_calls, "calls")

    def _add_services(self, server: grpc.aio.Server, service: SignalingService) -> None:
        signaling_pb2_grpc.add_SignalingServiceServicer_to_server(service, server)
        signaling_pb2_grpc.add_PeerLinkServiceServicer_to_server(PeerLinkService(self._carried), server)

    def _start_link(self, link: Coroutine[Any, Any, None], name: str) -> None:
        self._lifecycle.start(link, name)

    def _carried(self, instance: str, carriage: Carriage, data: bytes, flow: Flow) -> None:
        """What another replica handed over."""
        self.peering.met(instance)
        self.addressing.peers = self.peering.alive
        if carriage is Carriage.RECEIVED:
            self.driver.received(data, self.addressing.take(instance, flow))
        elif carriage is Carriage.BROKEN:
            self._broken(self.addressing.take(instance, flow))
        elif self._listeners.send(data, flow):
            self.peering.used(flow, instance)
        else:
            self.peers.carry(instance, Carriage.BROKEN, b"", flow)

    def _came(self, frame: Frame) -> None:
        """What a process of the same addresses says."""
        carriage = self.switch.came(frame)
        self.addressing.peers = self.peering.alive
        if carriage is not None:
            self._carried(frame.sender, carriage, frame.data, frame.flow)

    def _sibling_lost(self, instance: str) -> None:
        self.peering.lost(instance)
        self.addressing.peers = self.peering.alive

    def _may_ask(self, flow: Flow) -> bool:
        return self.core.sources.carries(flow.remote, asyncio.get_running_loop().time())

    def _broken(self, flow: Flow) -> None:
        """A connection is gone, or could not be made: not from within a step of the core."""
        self.peering.broken(flow)
        asyncio.get_running_loop().call_soon(self.driver.transport_failed, flow)

    def _is_registered(self, flow: Flow) -> bool:
        return self.core.registrations.flows.holds(flow, asyncio.get_running_loop().time())

    def _unregister(self, aor: str, flow: Flow, tries: int = 1) -> None:
        """Removes bindings of a broken flow; a registrar that is away is asked again, a few times."""

        def answered(is_done: bool) -> None:
            if not is_done and tries < UNREGISTER_TRIES:
                asyncio.get_running_loop().call_later(2.0**tries, self._unregister, aor, flow, tries + 1)

        self.registrar.unregister(aor, flow, answered)

    async def _end_calls(self) -> None:
        """Ends every call: BYE or a final response to each leg, its events written; then closes the port."""
        live, router = self.core.calls.table, self.core.router
        calls = len(live)
        if self.peering.siblings:
            self.switch.is_leaving = True
            self._listeners.take_no_more()
        self.driver.end_all("shutdown")
        deadline = asyncio.get_running_loop().time() + LAST_WORDS_S
        while live or router.unanswered:
            if asyncio.get_running_loop().time() >= deadline:
                break
            await asyncio.sleep(0.02)
        await self.relays.leave(LAST_WORDS_S)
        written = await self.journal.flush(LAST_WORDS_S)
        _log.info("calls ended", calls=calls, left=len(live), events_written=written)
        self.driver.close()
        self._listeners.close()
        self._siblings.close()

    def _lease_kept(self, error: object) -> None:
        """Whether Redis takes writes: one whose disk is full answers, and refuses them."""
        self._health.set("redis", error is None, "" if error is None else f"it takes no writes: {error}"[:DETAIL_MAX])

    def _replicas_seen(self, alive: frozenset[str]) -> None:
        """The instances that live, without this one."""
        for name in alive - frozenset(self.peering.alive):
            self.lease.look_up(name)
        self.peering.leased(alive)
        self.addressing.peers = self.peering.alive
        if alive != self._known_replicas and self._settings.sip_keepalive_s:
            is_loss = self._known_replicas is None or not alive >= self._known_replicas
            self._known_replicas = alive
            self.core.keepalive.came_back(alive)
            if is_loss:
                self._lifecycle.start(self._take_over(alive), "keepalive")

    def _replica_found(self, listen: Listen) -> None:
        """Another instance's address: no phone is there."""
        self.addressing.note_own(listen.host, [listen.port])

    async def _take_over(self, alive: frozenset[str]) -> None:
        """Keeps open what this instance kept before it was started anew, and its share of one that is gone."""
        loop, keepalive, instance = asyncio.get_running_loop(), self.core.keepalive, self._settings.instance_id
        try:
            async for binding in self.registrar.bindings():
                if not takes_over(binding.aor, binding.instance, instance, alive):
                    continue
                flow = self.addressing.own_flow(binding.flow)
                left_s = binding.expires_at_ms / 1000 - time.time()
                if left_s > 0 and keepalive.keeps(flow, binding.uri, binding.path):
                    keepalive.registered(binding.aor, flow, binding.uri, loop.time() + left_s, binding.instance)
        except ServiceError as error:
            self._known_replicas = None  # the next sign of life asks again
            _log.warning("bindings to be kept alive are not known yet", reason=error.detail)
        finally:
            self.driver.wake()

    def _found(self, finding: Finding) -> None:
        def answered(is_there: bool) -> None:
            if not is_there:
                self.core.keepalive.unregistered(finding.aor, finding.flow)

        self.registrar.report(finding, answered)

    # --- what the parts tell each other

    def _transmit(self, data: bytes, flow: Flow) -> None:
        send = self.peering.send if is_remote(flow) else self._listeners.send
        if not send(data, flow) and flow.transport.reliable:
            self._broken(flow)

    def _signal(self, call_id: str, signal: Signal) -> None:
        self.driver.signal(self.core.calls, call_id, signal)

    def _answered(self, ask: Ask, answer: object) -> None:
        self.driver.answered(ask, answer)

    def _journal_ready(self, ready: bool) -> None:
        self.driver.journal(ready)
        if ready:
            _log.info("events are written again", dropped=self.journal.backlog_dropped)
        else:
            _log.error("events cannot be written: new calls wait or are refused until Redis answers; live calls go on")
        self._health.set("journal", ready, "" if ready else "events cannot be written to Redis")

    def _health_of(self, name: str, up: bool) -> None:
        self._health.set(name, up, "" if up else "out of reach")

    def _registrar_changed(self, up: bool) -> None:
        """Without the registrar the users that are known go on calling: work for this instance, while there are any."""
        serves = self.known.serve_alone
        self._health.set("registrar", up, "" if up else "out of reach", needed=not serves)

    def _relays_ready(self, ready: bool) -> None:
        self._health.set("relay", ready, "" if ready else "no relay takes calls")

    def _relay_came(self, address: str) -> None:
        if address not in self.relays.links:
            link = self.relays.add(address)
            self._relay_tasks[address] = self._lifecycle.start(link.client.run(), f"relay {address}")

    async def _relay_went(self, address: str) -> None:
        link = self.relays.links.get(address)
        if link is None:
            return
        self.relays.remove(address)
        task = self._relay_tasks.pop(address)
        task.cancel()
        await link.close()


def board_of(settings: SignalingSettings) -> Board | None:
    """What the processes of our addresses share; None where there are no others. Raises OSError."""
    names = tuple(settings.siblings)
    if settings.sip_board is None or len(names) < 2:
        return None
    return Board(shared_memory(settings.sip_board, OCTETS), names.index(settings.instance_id), names)


async def main(lifecycle: Lifecycle, settings: SignalingSettings) -> None:
    """Assembles and starts an instance."""
    await Signaling(lifecycle, settings).start()
