"""The parts that answer questions about users, joined: directory, the stream that fills it, and who asks it first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pbx_runtime.clock import SystemClock
from pbx_signaling.clients.follow import FollowStream
from pbx_signaling.directory.directory import Directory
from pbx_signaling.directory.informed import InformedRegistrar
from pbx_signaling.directory.observe import DirectoryCollector

if TYPE_CHECKING:
    from pbx_runtime.redis_pipe import PipelinedRedis
    from pbx_signaling.clients.registrar import GrpcRegistrar
    from pbx_signaling.directory.directory import Limits
    from pbx_sip.auth.nonce import NonceMinter
    from pbx_sip.auth.proof import Offer


class KnownUsers:
    """What an instance knows of users; start `stream.run` with the lifecycle."""

    def __init__(
        self, registrar: GrpcRegistrar, redis: PipelinedRedis, nonces: NonceMinter, offer: Offer, limits: Limits
    ) -> None:
        """`nonces`: those that mint what this instance's challenges hold; `offer`: what these offer."""
        self._doubt_s = limits.doubt_s
        self.directory = Directory(limits.users, limits.doubt_s)
        self.stream = FollowStream(registrar.open_follow, self.directory)
        self.informed = InformedRegistrar(
            registrar, self.directory, self.stream.wake, redis, nonces, offer, SystemClock()
        )
        """The registrar as the core sees it."""
        registrar.on_bound = self.informed.bound
        self.collector = DirectoryCollector(self.directory, self.informed, self.stream)

    @property
    def serve_alone(self) -> bool:
        """Whether anybody can call while the registrar is away."""
        return self.directory.users > 0 and self._doubt_s > 0
