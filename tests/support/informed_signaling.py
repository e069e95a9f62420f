"""A signaling instance's knowledge of users, whole but for SIP: directory, stream, registrar and Redis."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator

from pbx_runtime.clock import SystemClock
from pbx_runtime.redis_pipe import PipelinedRedis
from pbx_signaling.calls.signals import Authenticated, Found, Signal
from pbx_signaling.clients.follow import FollowStream
from pbx_signaling.clients.registrar import GrpcRegistrar
from pbx_signaling.directory.directory import Directory, Look, Standing
from pbx_signaling.directory.informed import InformedRegistrar, Result, Topic
from pbx_signaling.users.attempt import Attempt
from pbx_signaling.users.questions import Register, Registered
from pbx_sip.address import Flow, HostPort, Transport, network_of
from pbx_sip.auth.digest import Challenge, respond
from pbx_sip.auth.nonce import NonceMinter
from pbx_sip.auth.proof import Offer
from pbx_sip.header.contact import RegisterContact
from support.registrar_process import DOMAIN, KEY, RegistrarProcess

SOURCE = "192.0.2.4"


class InformedSignaling:
    """One instance."""

    def __init__(self, address: str, redis_url: str, name: str = "s1", *, users: int = 1_000) -> None:
        self.name = name
        self.redis = PipelinedRedis(redis_url)
        self.registrar = GrpcRegistrar(address, name, lambda up: None)
        self.nonces = NonceMinter(KEY, os.urandom)
        self.directory = Directory(users, 3_600.0)
        self.stream = FollowStream(self.registrar.open_follow, self.directory)
        self.informed = InformedRegistrar(
            self.registrar, self.directory, self.stream.wake, self.redis, self.nonces, Offer(), SystemClock()
        )
        self.registrar.on_bound = self.informed.bound
        self._cseq = 0

    def look(self, user: str) -> Look:
        """What the directory has, without the question counting as one."""
        return self.directory.look(f"{user}@{DOMAIN}", time.monotonic(), if_room=True)

    def is_certain(self, user: str) -> bool:
        """Whether the directory is sure of a user."""
        look = self.look(user)
        self.stream.wake()
        return look.standing is Standing.CERTAIN

    def count(self, question: Topic, result: Result) -> int:
        """Questions that were answered so."""
        return self.informed.results[question, result]

    def authorization(
        self, user: str, password: str = "secret", *, nonce: str = "", nc: int = 1, method: str = "INVITE"
    ) -> str:
        """Credentials for a nonce; for a new one of this instance where none is given."""
        challenge = Challenge(DOMAIN, nonce or self.nonce(), "SHA-256")
        return str(respond(challenge, user, password, method, f"sip:{DOMAIN}", cnonce="c", nc=nc))

    def nonce(self) -> str:
        """A new nonce."""
        return self.nonces.mint(time.time(), network_of(SOURCE))

    async def authenticate(
        self, user: str, password: str = "secret", *, authorization: str = "", claimed: str = ""
    ) -> Signal:
        """A caller's INVITE."""
        attempt = Attempt(
            call_id="c",
            dialled="1",
            aor=f"1@{DOMAIN}",
            claimed=claimed or f"{user}@{DOMAIN}",
            display_name="",
            authorization=authorization or self.authorization(user, password),
            uri=f"sip:1@{DOMAIN}",
            max_forwards=70,
            source=HostPort(SOURCE, 5060),
            nonce_source=network_of(SOURCE),
        )
        answer: asyncio.Future[Signal] = asyncio.get_running_loop().create_future()
        self.informed.authenticate(attempt, "INVITE", answer.set_result)
        return await answer

    async def lets_in(self, user: str, password: str = "secret") -> bool:
        """Whether a caller is let in."""
        return isinstance(await self.authenticate(user, password), Authenticated)

    async def find(self, user: str) -> Signal:
        """Where a user can be reached."""
        answer: asyncio.Future[Signal] = asyncio.get_running_loop().create_future()
        self.informed.find(f"{user}@{DOMAIN}", answer.set_result)
        return await answer

    async def hosts(self, user: str) -> list[str]:
        """The same: the addresses of the phones."""
        found = await self.find(user)
        assert isinstance(found, Found), found
        return [target.host for target in found.targets]

    async def asked(self, user: str) -> Signal:
        """The same by the registrar alone."""
        answer: asyncio.Future[Signal] = asyncio.get_running_loop().create_future()
        self.registrar.find(f"{user}@{DOMAIN}", answer.set_result)
        return await answer

    async def register(self, user: str, *, expires_s: int = 600, authorization: str = "") -> Registered:
        """A phone's REGISTER."""
        self._cseq += 1
        ask = Register(
            aor=f"{user}@{DOMAIN}",
            contacts=[RegisterContact(f"sip:{user}@{SOURCE}:5060", expires_s=expires_s)],
            remove_all=False,
            call_id=f"reg-{self.name}-{user}",
            cseq=self._cseq,
            flow=Flow(Transport.UDP, HostPort(SOURCE, 5060), "udp4"),
            path=[],
            user_agent="Phone/1.0",
            authorization=authorization or self.authorization(user, method="REGISTER"),
            body=b"",
            nonce_source=network_of(SOURCE),
        )
        answer: asyncio.Future[Registered] = asyncio.get_running_loop().create_future()
        self.informed.register(ask, answer.set_result)
        return await answer


@contextlib.asynccontextmanager
async def informed_signaling(
    replica: RegistrarProcess, name: str = "s1", *, users: int = 1_000
) -> AsyncIterator[InformedSignaling]:
    """An instance that follows users at a registrar."""
    made = InformedSignaling(f"127.0.0.1:{replica.grpc_port}", replica.redis.url, name, users=users)
    tasks = [asyncio.ensure_future(each.run()) for each in (made.redis, made.registrar.client, made.stream)]
    try:
        yield made
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await made.registrar.close()
