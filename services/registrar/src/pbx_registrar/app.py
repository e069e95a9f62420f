"""The composition root of the registrar."""

from __future__ import annotations

import asyncio
import os
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from pbx.registrar.v1 import registrar_pb2_grpc
from pbx_registrar.accounts.cache import AccountCache
from pbx_registrar.accounts.sql import SqlAccounts
from pbx_registrar.api.grpc import AccountService, RegistrarService
from pbx_registrar.authenticate import Authenticator
from pbx_registrar.bindings import Limits
from pbx_registrar.observe import Observer
from pbx_registrar.register import Registrar
from pbx_registrar.storage.redis import AORS, RedisStore
from pbx_runtime import logs
from pbx_runtime.errors import ServiceError
from pbx_runtime.grpc_server import serve_grpc
from pbx_runtime.http import serve_http, system_app
from pbx_runtime.redis_pipe import PipelinedRedis
from pbx_sip.auth.nonce import NonceMinter

if TYPE_CHECKING:
    from pbx_registrar.settings import RegistrarSettings
    from pbx_runtime.lifecycle import Lifecycle

EXPIRY_PERIOD_S: Final = 1.0

_log = logs.get_logger("registrar")


async def main(lifecycle: Lifecycle, settings: RegistrarSettings) -> None:
    """Assembles and starts a replica."""
    health = lifecycle.health
    health.set("redis", False, "not connected yet")
    redis = PipelinedRedis(
        settings.redis_url, on_state=lambda up: health.set("redis", up, "" if up else "out of reach")
    )
    settings.data.mkdir(parents=True, exist_ok=True)
    accounts = SqlAccounts(settings.sql_url())
    await accounts.migrate()
    lifecycle.on_stop(accounts.close, "accounts")
    lifecycle.start(redis.run(), "redis")
    source = f"registrar/{settings.instance_id}"
    store = RedisStore(redis)
    limits = Limits(settings.min_expires_s, settings.default_expires_s, settings.max_expires_s, settings.contacts_max)
    registrar = Registrar(store, limits, source)
    observer = Observer(lifecycle.registry, source)
    cache = AccountCache(accounts, time.monotonic)
    nonces = NonceMinter(bytes.fromhex(settings.nonce_key.get_secret_value()), os.urandom)
    authenticator = Authenticator(settings.domain, nonces, cache, store, time.time)
    authenticator.on_failure = observer.refused
    services = RegistrarService(registrar, authenticator, cache, observer)
    admin = AccountService(settings.domain, accounts, cache, redis, registrar)
    await serve_grpc(
        lifecycle,
        settings.grpc_listen,
        partial(registrar_pb2_grpc.add_RegistrarServiceServicer_to_server, services),
        partial(registrar_pb2_grpc.add_AccountServiceServicer_to_server, admin),
    )
    await serve_http(lifecycle, system_app(health, lifecycle.registry), settings.http_listen)
    lifecycle.start(cache.watch(redis), "account changes")
    lifecycle.start(observer.tell_refusals(redis), "refusals")
    lifecycle.start(_expire(registrar, redis, observer), "expiry")


async def _expire(registrar: Registrar, redis: PipelinedRedis, observer: Observer) -> None:
    """Removes what ran out, every second; until cancelled."""
    while True:
        try:
            observer.expired.inc(await registrar.expire(int(time.time() * 1000)))
            observer.bindings.set(await redis.submit("ZCARD", AORS))
        except ServiceError as error:
            _log.debug("expiry waits for Redis", reason=str(error))
        await asyncio.sleep(EXPIRY_PERIOD_S)
