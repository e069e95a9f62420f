"""gRPC channels to peers: options, credentials, deadlines, and status codes turned into `ServiceError`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import grpc
import grpc.aio

from pbx_runtime import errors
from pbx_runtime.address import UNIX
from pbx_runtime.grpc_server import MESSAGE_BYTES_MAX, NO_PROBE, STATUS_OF

if TYPE_CHECKING:
    from pbx_runtime.grpc_credentials import GrpcCredentials

UNARY_DEADLINE_S = 5.0
"""What a unary call of a tool may take where its caller says nothing else."""
OPTIONS: list[tuple[str, int]] = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    # A peer that vanished without a FIN is noticed within 15 s.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # Reconnect fast: the peers are in the same cluster, and BatchClient has its own back-off.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    NO_PROBE,
    # Channels to one address stay apart, so that closing one does not touch another.
    ("grpc.use_local_subchannel_pool", 1),
]
_ERROR_OF = {code: kind for kind, code in STATUS_OF.items()} | {
    grpc.StatusCode.CANCELLED: errors.Unavailable,
    grpc.StatusCode.ABORTED: errors.FailedPrecondition,
    grpc.StatusCode.OUT_OF_RANGE: errors.InvalidArgument,
    grpc.StatusCode.UNAUTHENTICATED: errors.PermissionDenied,
}


def open_channel(address: str, credentials: GrpcCredentials | None = None) -> grpc.aio.Channel:
    """A channel to `host:port` or `unix:///path`. Connects when it is first used; close it when done.

    With `credentials` a peer beyond this machine must prove that it holds the key, as we do. A unix socket needs none:
    its directory decides who may connect.
    """
    if credentials is None or address.startswith(UNIX):
        return grpc.aio.insecure_channel(address, options=OPTIONS)
    from pbx_runtime.secure_channel import SecureChannel

    return SecureChannel(address, credentials, OPTIONS)


def error_of(error: grpc.RpcError) -> errors.ServiceError:
    """The domain error of an RPC error; `Internal` for codes that say no more."""
    if not isinstance(error, grpc.aio.AioRpcError):
        return errors.Unavailable(str(error))
    kind = _ERROR_OF.get(error.code(), errors.Internal)
    return kind(error.details() or error.code().name)


@contextlib.contextmanager
def map_rpc_errors() -> Iterator[None]:
    """Raise the `ServiceError` that stands for the RPC error raised inside."""
    try:
        yield
    except grpc.RpcError as error:
        raise error_of(error) from error
