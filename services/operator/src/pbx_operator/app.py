"""The operator process: the only place that constructs its parts, orders their start and their end."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime

from pbx_operator import credentials
from pbx_operator.apply import ApiServer
from pbx_operator.clients.relay import GrpcRelayControl
from pbx_operator.lease import Elector
from pbx_operator.observe import Observer
from pbx_operator.reconcile import Reconciler, Scope
from pbx_operator.settings import OperatorSettings
from pbx_operator.watch import Watches, hush
from pbx_runtime import logs
from pbx_runtime.grpc_credentials import credentials_of
from pbx_runtime.http import serve_http, system_app
from pbx_runtime.lifecycle import Lifecycle

SETTLE_S = 0.2
"""Events come in bursts: one pass for all of them."""
_log = logs.get_logger("app")


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


class App:
    """The parts, joined."""

    def __init__(self, settings: OperatorSettings, lifecycle: Lifecycle, kube: ApiServer) -> None:
        self._settings = settings
        self._lifecycle = lifecycle
        self._dirty = asyncio.Event()
        observer = Observer(lifecycle.registry)
        self.relays = GrpcRelayControl(credentials_of(settings))
        clock = asyncio.get_running_loop().time
        namespace, identity = settings.operator_namespace, f"pbx-operator-{settings.instance_id}"
        self.elector = Elector(kube, namespace, identity, observer, clock, utc_now)
        scope = Scope(settings.watch_namespace, namespace)
        self.reconciler = Reconciler(
            kube, self.relays, observer, utc_now, settings.policy(), lambda: self.elector.is_leader, scope
        )
        self.watches = Watches(settings.watch_namespace, self._dirty.set)

    async def passes(self) -> None:
        """A pass whenever something happened, and at the interval."""
        health = self._lifecycle.health
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.operator_interval_s):
                    await self._dirty.wait()
            await asyncio.sleep(SETTLE_S)
            self._dirty.clear()
            if self.elector.is_leader:
                clean = await self.reconciler.run_once()
                health.set("kubernetes", True, "" if clean else "the last pass failed in part; the next one repeats it")


async def service_main(lifecycle: Lifecycle, settings: OperatorSettings) -> None:
    """Start everything."""
    hush(settings.log_level == "debug")
    access = credentials.find_access()
    stack = contextlib.AsyncExitStack()
    kube = await stack.enter_async_context(ApiServer(access.url, access.headers, access.ssl))
    lifecycle.on_stop(stack.aclose, "api server")
    app = App(settings, lifecycle, kube)
    lifecycle.on_stop(app.relays.close, "relays")
    lifecycle.on_stop(app.elector.give_up, "lease")
    await serve_http(lifecycle, system_app(lifecycle.health, lifecycle.registry), settings.http_listen)
    lifecycle.start(app.elector.run(), "lease")
    lifecycle.start(app.passes(), "passes")
    lifecycle.start(app.watches.run(), "watches")
    _log.info("operator up", server=access.url, namespace=settings.watch_namespace or "every namespace")
