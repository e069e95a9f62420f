"""A grpc.aio server: health, limits, and one interceptor that counts, logs and maps errors.

Domain errors (`ServiceError`) become their status code; anything else is a bug: logged with its stack,
answered INTERNAL without a detail. Messages of a stream are not touched: the interceptor sees the begin and
the end of a call.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import Counter

from pbx_runtime import errors, logs
from pbx_runtime.address import Listen, UnixSocket
from pbx_runtime.health import Health
from pbx_runtime.lifecycle import Lifecycle
from pbx_runtime.metrics import Registry

if TYPE_CHECKING:
    from pbx_runtime.grpc_credentials import GrpcCredentials

MESSAGE_BYTES_MAX = 4 * 1024 * 1024
"""A batch of 1000 commands of a few hundred bytes fits many times; more is a mistake or an attack."""
STREAMS_MAX = 1024
"""Concurrent calls of one connection."""
GRACE_S = 2.0
NO_PROBE = ("grpc.http2.bdp_probe", 0)
"""No ping beside messages to find out how much the path holds at once: our peers are a fraction of a millisecond away,
and each ping wakes both. (A message without an answer: 2.2 instead of 2.9 changes of thread at the server.)"""
OPTIONS: list[tuple[str, int]] = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_concurrent_streams", STREAMS_MAX),
    # A taken port is an error, not a second server beside the first.
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    NO_PROBE,
    # Clients ping every 10 s (grpc_channel): do not punish them for it.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
]
STATUS_OF: dict[type[errors.ServiceError], grpc.StatusCode] = {
    errors.InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    errors.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.ResourceExhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.Internal: grpc.StatusCode.INTERNAL,
}
_log = logs.get_logger("grpc")
_Context = Any  # grpc.aio.ServicerContext[Any, Any]; generic in the stubs only


def status_of(error: errors.ServiceError) -> grpc.StatusCode:
    """The status code of a domain error."""
    return next((code for kind, code in STATUS_OF.items() if isinstance(error, kind)), grpc.StatusCode.UNKNOWN)


class ErrorInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # not generic at run time
    """Counts calls by method and code; maps what a handler raises."""

    def __init__(self, registry: Registry) -> None:
        self._calls = Counter("pbx_grpc_server_calls", "RPCs ended", ["method", "code"], registry=registry)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the handler of one call."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = str(handler_call_details.method)
        if handler.response_streaming:
            kind = "stream_stream" if handler.request_streaming else "unary_stream"
            wrapped = self._streaming(method, getattr(handler, kind))
        else:
            kind = "stream_unary" if handler.request_streaming else "unary_unary"
            wrapped = self._unary(method, getattr(handler, kind))
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(wrapped, handler.request_deserializer, handler.response_serializer)

    def _unary(self, method: str, inner: Callable[[Any, _Context], Awaitable[Any]]) -> Callable[..., Any]:
        async def call(request: Any, context: _Context) -> Any:
            try:
                answer = await inner(request, context)
            except Exception as error:
                await self._abort(method, context, error)
            self._calls.labels(method, _code_name(context)).inc()
            return answer

        return call

    def _streaming(self, method: str, inner: Callable[[Any, _Context], Any]) -> Callable[..., Any]:
        async def write_all(request: Any, context: _Context) -> None:
            # A handler is either a coroutine that calls context.write or an async generator.
            try:
                answer = inner(request, context)
                if hasattr(answer, "__aiter__"):
                    async for message in answer:
                        await context.write(message)
                else:
                    await answer
            except Exception as error:
                await self._abort(method, context, error)
            self._calls.labels(method, _code_name(context)).inc()

        return write_all

    async def _abort(self, method: str, context: _Context, error: Exception) -> None:
        if isinstance(error, grpc.aio.AbortError):
            self._calls.labels(method, _code_name(context)).inc()
            raise error
        if isinstance(error, errors.ServiceError):
            code, detail = status_of(error), error.detail
        else:
            code, detail = grpc.StatusCode.INTERNAL, "internal error"
            _log.error("rpc failed", method=method, exc_info=error)
        self._calls.labels(method, code.name).inc()
        await context.abort(code, detail)


def _code_name(context: _Context) -> str:
    code = context.code()
    return code.name if isinstance(code, grpc.StatusCode) else "OK"


class HealthService(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # the package has no types
    """grpc.health.v1 as a mirror of `Health`; every service name has the same state."""

    def __init__(self, health: Health) -> None:
        self._health = health

    async def Check(self, request: Any, context: _Context) -> Any:
        """The state now."""
        return _health_response(self._health.is_ready)

    async def Watch(self, request: Any, context: _Context) -> AsyncIterator[Any]:
        """The state now, and whenever it changes."""
        while True:
            # What was told counts, not what is so when the write is over: it may have changed meanwhile.
            told = self._health.is_ready
            yield _health_response(told)
            while self._health.is_ready is told:
                await self._health.changed()


def _health_response(ready: bool) -> Any:
    response = health_pb2.HealthCheckResponse
    return response(status=response.SERVING if ready else response.NOT_SERVING)


async def serve_grpc(
    lifecycle: Lifecycle,
    listen: Listen | UnixSocket,
    *register: Callable[[grpc.aio.Server], None],
    credentials: GrpcCredentials | None = None,
) -> Listen | UnixSocket:
    """Start a server with the services that `register` adds, until the process stops.

    Each `register` is called with the server: `lambda s: add_XServicer_to_server(servicer, s)`. Returns
    where it listens (port 0 resolved). Raises OSError that names the address where it cannot listen.
    """
    server = grpc.aio.server(interceptors=[ErrorInterceptor(lifecycle.registry)], options=OPTIONS)
    health_pb2_grpc.add_HealthServicer_to_server(HealthService(lifecycle.health), server)
    for add in register:
        add(server)
    port = _bind(server, listen, credentials)
    await server.start()

    async def stop() -> None:
        await asyncio.shield(server.stop(GRACE_S))

    lifecycle.on_stop(stop, "grpc")
    return listen if isinstance(listen, UnixSocket) else Listen(listen.host, port)


def _bind(server: grpc.aio.Server, listen: Listen | UnixSocket, credentials: GrpcCredentials | None) -> int:
    """Open the port. A socket in the file system is its owner's alone, whatever the umask says."""
    former_mask = os.umask(0o177)
    try:
        if isinstance(listen, UnixSocket) or credentials is None:
            return server.add_insecure_port(str(listen))
        return server.add_secure_port(str(listen), credentials.for_server())
    except RuntimeError as error:
        hint = "is its directory there?" if isinstance(listen, UnixSocket) else "is the port taken?"
        raise OSError(f"cannot listen on {listen} for gRPC: {hint}") from error
    finally:
        os.umask(former_mask)
