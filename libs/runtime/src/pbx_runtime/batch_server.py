"""The server's end of a batched bidirectional stream.

Each message brings the commands of one turn of the client's loop. A handler answers a command at once (no
task), by a coroutine (a task, bounded), or later through `Replies.reply` (a callback of some other
adapter). All results that are there when the writer wakes go out in one message.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from pbx_runtime import errors, logs

BATCH_MAX = 500
"""Results in one message."""
UNSENT_MAX = 50_000
"""Results and events that the peer did not take: beyond this it is dead or hostile; the stream is ended."""
LAZY_S = 0.3
"""How long a result that nobody waits for is kept for company: a message costs both ends several changes of thread."""
TASKS_MAX = 1_000
"""Coroutines of one stream at once; reading stops until one ends."""

_log = logs.get_logger("batch")
C = TypeVar("C")
R = TypeVar("R")


class Context(Protocol):
    """What is used of a `grpc.aio.ServicerContext`."""

    def write(self, message: Any) -> Any:
        """Awaitable; done when the message was taken."""

    def send_initial_metadata(self, initial_metadata: Any) -> Any:
        """Awaitable; tells the client that the stream stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler(Generic[C, R]):
    """What a service does with a stream."""

    commands_of: Callable[[Any], Iterable[C]]
    """The commands in a message; the place to look at a hello in it. A `ServiceError` ends the stream."""
    handle: Callable[[C, Replies[R]], R | Coroutine[Any, Any, R] | None]
    """The result; or a coroutine that answers it; or None, and a method of `Replies` is called with it."""
    make_response: Callable[[list[R]], Any]
    """One message for the results of a turn."""
    failed: Callable[[C, Exception], R]
    """The result that tells of a handler's error."""


class Replies(Generic[R]):
    """Where results and events of one stream go. Safe to call after the stream ended (they are dropped)."""

    def __init__(self, make_response: Callable[[list[R]], Any]) -> None:
        self._make_response = make_response
        self._results: list[R] = []
        self._messages: deque[Any] = deque()
        self._wakeup = asyncio.Event()
        self._lazy: asyncio.TimerHandle | None = None
        self.is_open = True

    def reply(self, result: R) -> None:
        """Send a result with the others of this turn."""
        if self.is_open:
            self._results.append(result)
            self._wakeup.set()

    def reply_lazily(self, result: R) -> None:
        """Send a result with whatever goes next, or alone after `LAZY_S`: an acknowledgement that nobody waits for."""
        if self.is_open:
            self._results.append(result)
            if self._lazy is None:
                self._lazy = asyncio.get_running_loop().call_later(LAZY_S, self._wakeup.set)

    def send(self, message: Any) -> None:
        """Send a message of its own: events, state."""
        if self.is_open:
            self._messages.append(message)
            self._wakeup.set()

    async def write_all(self, context: Context) -> None:
        """Write what comes until cancelled. Raises ResourceExhausted where the peer takes nothing."""
        while True:
            await self._wakeup.wait()
            self._wakeup.clear()
            self._forget_timer()
            while self._results or self._messages:
                if len(self._results) + len(self._messages) > UNSENT_MAX:
                    raise errors.ResourceExhausted(f"more than {UNSENT_MAX} results not taken by the peer")
                await context.write(self._next())

    def close(self) -> None:
        """The stream has ended: what comes from now on is dropped."""
        self.is_open = False
        self._forget_timer()

    def _forget_timer(self) -> None:
        if self._lazy is not None:
            self._lazy.cancel()
            self._lazy = None

    def _next(self) -> Any:
        if self._messages:
            return self._messages.popleft()
        batch, self._results = self._results[:BATCH_MAX], self._results[BATCH_MAX:]
        return self._make_response(batch)


async def serve_batches(
    requests: AsyncIterator[Any],
    context: Context,
    handler: Handler[C, R],
    replies: Replies[R] | None = None,
) -> None:
    """Serve one stream until the client ends it; the body of a servicer's stream-stream method.

    Pass `replies` to send events on the stream from elsewhere. Raises what `commands_of` raises.
    """
    replies = replies if replies is not None else Replies(handler.make_response)
    await context.send_initial_metadata(())
    writer = asyncio.ensure_future(replies.write_all(context))
    reader = asyncio.ensure_future(_read_all(requests, handler, replies))
    try:
        await asyncio.wait({reader, writer}, return_when=asyncio.FIRST_COMPLETED)
        for task in (reader, writer):
            if task.done():
                task.result()
        await _flush(replies, context, writer)
    finally:
        replies.close()
        for task in (reader, writer):
            task.cancel()
        await asyncio.wait({reader, writer})


async def _flush(replies: Replies[R], context: Context, writer: asyncio.Future[None]) -> None:
    # The client is done sending; what was answered in the same turn still goes out.
    writer.cancel()
    await asyncio.wait({writer})
    while replies._results or replies._messages:
        await context.write(replies._next())


async def _read_all(requests: AsyncIterator[Any], handler: Handler[C, R], replies: Replies[R]) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            await _read_into(group, requests, handler, replies)
    except ExceptionGroup as failed:
        # The tasks never raise: it is the one error of the reading itself, and has a status code of its own.
        raise failed.exceptions[0] from None


async def _read_into(
    group: asyncio.TaskGroup, requests: AsyncIterator[Any], handler: Handler[C, R], replies: Replies[R]
) -> None:
    slots = asyncio.Semaphore(TASKS_MAX)
    async for request in requests:
        for command in handler.commands_of(request):
            answer = _answer(handler, command, replies)
            if answer is not None:
                await slots.acquire()
                task = group.create_task(_reply_later(answer, handler, command, replies))
                task.add_done_callback(lambda _: slots.release())


def _answer(handler: Handler[C, R], command: C, replies: Replies[R]) -> Awaitable[R] | None:
    try:
        answer = handler.handle(command, replies)
    except Exception as error:
        replies.reply(_failure(handler, command, error))
        return None
    if asyncio.iscoroutine(answer):
        return answer
    if answer is not None:
        replies.reply(answer)
    return None


async def _reply_later(answer: Awaitable[R], handler: Handler[C, R], command: C, replies: Replies[R]) -> None:
    try:
        result = await answer
    except Exception as error:
        result = _failure(handler, command, error)
    replies.reply(result)


def _failure(handler: Handler[C, R], command: C, error: Exception) -> R:
    if not isinstance(error, errors.ServiceError):
        _log.error("command failed", exc_info=error)
    return handler.failed(command, error)
