"""Await what answers by a callback: for the slow paths (unary calls, loops, tests)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

from pbx_registrar.storage.base import Done
from pbx_runtime.errors import ServiceError

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


async def answer(ask: Callable[[*Arguments, Done[T]], None], *arguments: *Arguments) -> T | None:
    """Call `ask` with the arguments and a callback, and await its answer. Raises the ServiceError that it answers."""
    future: asyncio.Future[T | None] = asyncio.get_running_loop().create_future()

    def done(value: T | None, error: ServiceError | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)

    ask(*arguments, done)
    return await future
