"""Unary gRPC from a command: one call, one deadline, errors as sentences."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc.aio

from pbx_cli.errors import AlreadyThere, CliError, NoSuchThing
from pbx_runtime.address import UNIX
from pbx_runtime.errors import AlreadyExists, NotFound, ServiceError, Unavailable
from pbx_runtime.grpc_channel import map_rpc_errors, open_channel
from pbx_runtime.grpc_credentials import GrpcCredentials, credentials_of_environment

R = TypeVar("R")


def _credentials(address: str) -> GrpcCredentials | None:
    """PBX_GRPC_KEY or PBX_GRPC_KEY_FILE, for services of a cluster; a unix socket needs none. Raises CliError."""
    if address.startswith(UNIX):
        return None
    try:
        return credentials_of_environment()
    except (OSError, ValueError) as error:
        raise CliError(f"PBX_GRPC_KEY: {error}") from None


def call(address: str, what: str, ask: Callable[[grpc.aio.Channel], Awaitable[R]]) -> R:
    """Open a channel, await `ask`, close it. Raises CliError that names the peer and its address, NoSuchThing."""

    async def run() -> R:
        async with open_channel(address, _credentials(address)) as channel:
            with map_rpc_errors():
                return await ask(channel)

    try:
        return asyncio.run(run())
    except NotFound as error:
        raise NoSuchThing(error.detail) from None
    except AlreadyExists as error:
        raise AlreadyThere(error.detail) from None
    except Unavailable as error:
        raise CliError(f"cannot reach the {what} at {address} ({error.detail}): is `sip-pbx up` running?") from None
    except ServiceError as error:
        raise CliError(f"the {what} refused: {error.detail}") from None
