"""The registrar process: the only place that constructs its parts, orders their start and their end."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Final

from pbx.registrar.v1 import registrar_pb2_grpc
from pbx_registrar.account_cache import AccountCache
from pbx_registrar.api.accounts import AccountServicer
from pbx_registrar.api.grpc import Operations, RegistrarServicer
from pbx_registrar.authenticate import Authenticator
from pbx_registrar.codec import ProtoCodec
from pbx_registrar.expiry import Expiry
from pbx_registrar.followers import Followers
from pbx_registrar.notices import ACCOUNTS_CHANNEL, Notices, subscribe
from pbx_registrar.observe import FollowCollector, Observer
from pbx_registrar.register import Registrar
from pbx_registrar.settings import RegistrarSettings
from pbx_registrar.storage.accounts import SqlAccounts
from pbx_registrar.storage.redis import CHANGES_CHANNEL, RedisBindings
from pbx_registrar.storage.redis_ledger import RedisLedger
from pbx_runtime import logs
from pbx_runtime.backoff import Backoff
from pbx_runtime.clock import SystemClock
from pbx_runtime.errors import ServiceError
from pbx_runtime.grpc_credentials import credentials_of
from pbx_runtime.grpc_server import serve_grpc
from pbx_runtime.http import serve_http, system_app
from pbx_runtime.lifecycle import Lifecycle
from pbx_runtime.redis_pipe import PipelinedRedis
from pbx_sip.auth.nonce import NonceMinter
from pbx_sip.auth.proof import Offer

SQL_CHECK_S: Final = 2.0
"""How often the database is asked whether it is there."""
RECHECK_S: Final = 60.0
"""How often the accounts that are followed are compared with the database: as old as a cached account may get."""
_log = logs.get_logger("app")


class App:
    """The parts, joined."""

    def __init__(self, settings: RegistrarSettings, lifecycle: Lifecycle) -> None:
        self._health = lifecycle.health
        self.settings = settings
        self.clock = SystemClock()
        self.observer = Observer(lifecycle.registry)
        self.redis = PipelinedRedis(settings.redis_url, on_state=self._redis_changed)
        self.sql = SqlAccounts(settings.sql_url())
        self.accounts = AccountCache(self.sql, self.clock, self._sql_changed)
        self.observer.watch_accounts(lambda: float(len(self.accounts)))
        codec = ProtoCodec(f"registrar/{settings.instance_id}")
        key = bytes.fromhex(settings.nonce_key.get_secret_value())
        ledger = RedisLedger(self.redis, key)
        offer = Offer(settings.digest_algorithms, settings.digest_qop)
        self.registrar = Registrar(
            store=RedisBindings(self.redis),
            accounts=self.accounts,
            authenticator=Authenticator(
                self.accounts, ledger, NonceMinter(key, os.urandom), self.clock, self.observer.judged, offer
            ),
            codec=codec,
            policy=settings.policy,
            clock=self.clock,
            observe=self.observer.changed,
        )
        self.followers = Followers(self.accounts, self.registrar.store)
        self.notices = Notices(self.accounts, self.followers, codec.notice)
        lifecycle.registry.register(FollowCollector(self.followers, self.notices))
        self.expiry = Expiry(self.registrar, ledger, self.clock, self.observer, codec.refused)
        self.servicer = RegistrarServicer(
            Operations(self.registrar, self.observer),
            lambda: subscribe(settings.redis_url, CHANGES_CHANNEL),
            self.followers,
        )
        self.account_servicer = AccountServicer(
            self.sql, self.registrar, settings.domain, self._announce, self.observer
        )
        self._redis_changed(False)
        self._health.set("sql", False, "not asked yet")

    def _redis_changed(self, up: bool) -> None:
        self._health.set("redis", up, "" if up else "not connected")

    def _sql_changed(self, error: ServiceError | None) -> None:
        self._health.set("sql", error is None, error.detail if error is not None else "")

    def _announce(self, aor: str) -> None:
        self.accounts.forget(aor)
        # A replica that misses it finds out by its time to live.
        self.redis.submit("PUBLISH", ACCOUNTS_CHANNEL, aor, callback=lambda reply, error: None)

    async def recheck(self) -> None:
        """Tell followers of accounts that changed without a notice, until cancelled."""
        while True:
            await asyncio.sleep(RECHECK_S)
            with contextlib.suppress(ServiceError):  # `watch_sql` tells of it
                for aor in await self.followers.recheck(self.sql):
                    self.accounts.forget(aor)
                    self.followers.changed(aor)

    async def watch_sql(self) -> None:
        """Bring the schema up to date as soon as the database is there, then ask now and then whether it still is."""
        backoff = Backoff(first_s=0.2, most_s=SQL_CHECK_S)
        upgraded = False
        while True:
            try:
                await (self.sql.ping() if upgraded else self.sql.upgrade())
                upgraded = True
                self._sql_changed(None)
                backoff.reset()
                await asyncio.sleep(SQL_CHECK_S)
            except ServiceError as error:
                if self._health.checks["sql"].detail != error.detail:
                    _log.warning("sql down", reason=error.detail)
                self._sql_changed(error)
                await asyncio.sleep(backoff.next())


async def service_main(lifecycle: Lifecycle, settings: RegistrarSettings) -> None:
    """Start everything."""
    app = App(settings, lifecycle)
    lifecycle.on_ended(app.sql.close, "sql")
    lifecycle.start(app.redis.run(), "redis")
    lifecycle.start(app.watch_sql(), "sql")
    lifecycle.start(app.accounts.run(), "accounts")
    lifecycle.start(app.notices.run(settings.redis_url), "notices")
    lifecycle.start(app.recheck(), "recheck")
    lifecycle.start(app.expiry.run(), "expiry")
    listen = await serve_grpc(
        lifecycle,
        settings.grpc_listen,
        lambda server: registrar_pb2_grpc.add_RegistrarServiceServicer_to_server(app.servicer, server),
        lambda server: registrar_pb2_grpc.add_AccountServiceServicer_to_server(app.account_servicer, server),
        credentials=credentials_of(settings),
    )
    await serve_http(lifecycle, system_app(lifecycle.health, lifecycle.registry), settings.http_listen)
    _log.info("registrar up", grpc=str(listen), domain=settings.domain)
