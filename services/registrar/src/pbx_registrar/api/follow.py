"""The stream Follow: what a follower asks for in, what `followers` has for it out, and a sign of life in between."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

from pbx.registrar.v1 import registrar_pb2 as pb
from pbx_registrar.credentials import canonical
from pbx_registrar.followers import Follower, Followers, Known
from pbx_runtime.batch_server import Context

SIGN_S: Final = 1.0
"""Silence after which an empty message is sent: a follower doubts a stream that said nothing for three of them."""
USERS_MAX: Final = 200
"""Users in one message: some 300 KB with ten bindings each, far below the limit of a message."""


async def serve_follow(followers: Followers, requests: AsyncIterator[pb.FollowRequest], context: Context) -> None:
    """Serves one stream until the client ends it. Raises ResourceExhausted."""
    news = asyncio.Event()
    follower = followers.open(news.set)
    writer = asyncio.ensure_future(_write_all(follower, news, context))
    reader = asyncio.ensure_future(_read_all(followers, follower, requests))
    try:
        await context.send_initial_metadata(())
        await asyncio.wait({reader, writer}, return_when=asyncio.FIRST_COMPLETED)
        for task in (reader, writer):
            if task.done():
                task.result()
    finally:
        followers.close(follower)
        for task in (reader, writer):
            task.cancel()
        await asyncio.wait({reader, writer})


async def _read_all(followers: Followers, follower: Follower, requests: AsyncIterator[pb.FollowRequest]) -> None:
    async for request in requests:
        for aor in request.unfollow:
            followers.unfollow(follower, aor)
        for aor in request.follow:
            if canonical(aor) == aor:
                followers.follow(follower, aor)
            else:  # no account has such a name, and none will
                follower.tell(Known(aor))


async def _write_all(follower: Follower, news: asyncio.Event, context: Context) -> None:
    revision = 0
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SIGN_S):
                await news.wait()
        news.clear()
        while True:
            revision += 1
            doubt, users = follower.take(USERS_MAX)
            message = pb.FollowResponse(revision=revision, doubt=doubt, users=map(user_message, users))
            await context.write(message)
            if not follower.has_news:
                break


def user_message(known: Known) -> pb.User:
    """What is known of a user, as told."""
    account = known.account
    if account is None:
        return pb.User(aor=known.aor, failed=known.failed)
    return pb.User(
        aor=known.aor,
        known=True,
        user=account.user,
        display_name=account.display_name,
        calls_max=account.calls_max,
        ha1=account.ha1,
        ha1_of_aor=account.ha1_of_aor,
        bindings=pb.LookupResponse.FromString(known.payload).bindings,
    )
