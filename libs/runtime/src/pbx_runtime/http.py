"""HTTP inside the service's loop: /metrics, /healthz, /readyz, and the app that a service adds to them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from pbx_runtime.address import Listen
from pbx_runtime.health import Health
from pbx_runtime.http_guard import Admission, HttpGuard, HttpLimits, protocol_for
from pbx_runtime.lifecycle import Lifecycle
from pbx_runtime.metrics import Gauge, Registry
from pbx_runtime.tcp import listening

KEEP_ALIVE_S = 5
GRACE_S = 3
"""How long open requests may take once the process stops."""


def system_routes(health: Health, registry: Registry) -> list[BaseRoute]:
    """The three routes of every service; a FastAPI app takes them by `app.router.routes.extend`."""

    async def metrics(request: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    async def live(request: Request) -> Response:
        return _health_response(health, health.is_live)

    async def ready(request: Request) -> Response:
        return _health_response(health, health.is_ready)

    handlers = {"/metrics": metrics, "/healthz": live, "/readyz": ready}
    return [Route(path, handler, include_in_schema=False) for path, handler in handlers.items()]


def system_app(health: Health, registry: Registry, routes: Sequence[BaseRoute] = ()) -> Starlette:
    """A Starlette app with the system routes and those given."""
    return Starlette(routes=[*system_routes(health, registry), *routes])


def _health_response(health: Health, ok: bool) -> Response:
    checks = {name: {"ok": c.ok, "detail": c.detail} for name, c in health.checks.items()}
    body = {"status": "ok" if ok else "unavailable", "checks": checks}
    return JSONResponse(body, status_code=200 if ok else 503)


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the lifecycle owns them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _observe(guard: HttpGuard, registry: Registry) -> None:
    Gauge("pbx_http_connections", "Open connections of the HTTP listener", registry=registry).set_function(
        lambda: len(guard)
    )
    evicted = "Idle connections that were closed to make room for a new one"
    Gauge("pbx_http_connections_evicted", evicted, registry=registry).set_function(lambda: guard.evicted)


async def serve_http(lifecycle: Lifecycle, app: Any, listen: Listen, limits: HttpLimits | None = None) -> Listen:
    """Serve an ASGI app until the process stops. Returns where it listens (port 0 resolved).

    Raises OSError that names the address where it cannot listen.
    """
    bound = listening(listen)
    guard = HttpGuard(limits)
    config = uvicorn.Config(
        Admission(app, guard.limits),
        http=protocol_for(guard),
        log_config=None,
        access_log=False,
        ws="none",  # no service speaks WebSocket here; signaling's own is SIP's
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
    )
    _observe(guard, lifecycle.registry)
    server = _Server(config)
    task = lifecycle.start(server.serve(sockets=[bound]), "http")

    async def stop() -> None:
        server.should_exit = True
        await task

    lifecycle.on_stop(stop, "http")
    return Listen(listen.host, int(bound.getsockname()[1]))
