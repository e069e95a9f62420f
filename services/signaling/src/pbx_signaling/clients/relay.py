"""The relays over their batched streams: slots taken, told endpoints, given back; which relay gets a call."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from pbx.relay.v1 import relay_pb2 as pb
from pbx.relay.v1 import relay_pb2_grpc
from pbx_runtime import logs
from pbx_runtime.batch_stream import BatchClient, Codec
from pbx_runtime.errors import ServiceError
from pbx_runtime.grpc_channel import open_channel
from pbx_signaling.calls.signals import MediaReady, MediaSilent, MediaUnavailable, Signal
from pbx_signaling.media.stream import Slot, StreamEndpoint
from pbx_sip.message.text import utf8

if TYPE_CHECKING:
    import grpc.aio

    from pbx_runtime.grpc_credentials import GrpcCredentials

TIMEOUT_S: Final = 2.0
TRIES: Final = 2
"""Relays asked for one call. The second finds what the first had just given away."""
LEASE_S: Final = 30
"""How long our calls keep their slots when our stream breaks: longer than a restart, within the promised minute."""

_log = logs.get_logger("relay")


class RelayLink:
    """One relay, its stream and what it last said of itself."""

    def __init__(self, address: str, instance: str, owner: Relays) -> None:
        self.address = address
        self.relay_id = ""
        self.slots_free = 0
        self.is_ready = False
        self._owner = owner
        self._channel: grpc.aio.Channel = open_channel(address, owner.credentials)
        stub = relay_pb2_grpc.RelayServiceStub(self._channel)
        codec: Codec[pb.Command, pb.Result] = Codec(
            make_request=lambda commands: pb.SessionRequest(commands=commands),
            results_of=lambda response: response.results,
            hello=lambda: pb.SessionRequest(hello=pb.Hello(instance_id=instance, lease_s=LEASE_S)),
            on_response=self._heard,
            on_state=self._changed,
        )
        open_stream: Any = stub.Session
        self.client: BatchClient[pb.Command, pb.Result] = BatchClient(f"relay {address}", open_stream, codec)

    async def close(self) -> None:
        """Closes the channel."""
        await self._channel.close(None)

    @property
    def takes_calls(self) -> bool:
        """Whether a call may be put there."""
        return self.client.is_up and self.is_ready and self.slots_free > 0

    def _heard(self, response: pb.SessionResponse) -> None:
        if response.HasField("status"):
            status = response.status
            self.relay_id = status.relay_id
            self.slots_free = status.slots_free
            self.is_ready = status.state == pb.RELAY_STATE_READY
            self._owner.on_hosts(status.hosts)
            self._owner.changed()
        for event in response.events:
            if event.HasField("media_timeout"):
                self._owner.on_signal(event.call_id, MediaSilent(event.media_timeout.silent_s))

    def _changed(self, up: bool) -> None:
        if not up:
            self.is_ready = False
        self._owner.changed()


class Relays:
    """All relays that are known. Implements the executor's RelayClient."""

    def __init__(
        self,
        instance: str,
        on_signal: Callable[[str, Signal], None],
        on_ready: Callable[[bool], None],
        credentials: GrpcCredentials | None = None,
        on_hosts: Callable[[Iterable[str]], None] = lambda hosts: None,
    ) -> None:
        self.links: dict[str, RelayLink] = {}
        """Address to link."""
        self.failures = 0
        self.on_signal = on_signal
        self.credentials = credentials
        self._instance = instance
        self._on_ready = on_ready
        self.on_hosts = on_hosts
        """Told of the addresses of each relay: nobody's media may be sent there."""
        self._by_id: dict[str, RelayLink] = {}

    def add(self, address: str) -> RelayLink:
        """Takes a relay in; the caller runs its client."""
        link = self.links[address] = RelayLink(address, self._instance, self)
        return link

    def remove(self, address: str) -> None:
        """Forgets a relay that is gone."""
        self.links.pop(address, None)
        self.changed()

    def changed(self) -> None:
        """A relay's state changed."""
        self._by_id = {link.relay_id: link for link in self.links.values() if link.relay_id}
        self._on_ready(any(link.takes_calls for link in self.links.values()))

    def reserve(self, call_id: str, endpoints: list[StreamEndpoint], answer: Callable[[Signal], None]) -> None:
        """Takes a slot: of two relays picked at random the one with more free slots, then of another one."""
        self._try(call_id, endpoints, answer, set())

    def _try(
        self, call_id: str, endpoints: list[StreamEndpoint], answer: Callable[[Signal], None], tried: set[str]
    ) -> None:
        usable = [link for link in self.links.values() if link.takes_calls and link.address not in tried]
        if not usable or len(tried) >= TRIES:
            self.failures += 1
            answer(MediaUnavailable("no relay takes calls"))
            return
        picked = random.sample(usable, min(2, len(usable)))  # spreads load; not a secret
        link = max(picked, key=lambda candidate: candidate.slots_free)
        tried.add(link.address)

        def done(result: pb.Result | None, error: ServiceError | None) -> None:
            if result is not None and result.HasField("allocate"):
                link.slots_free -= 1
                self._refused(call_id, link.relay_id, result.allocate.refused)
                answer(MediaReady(_slot(result.allocate)))
                return
            detail = str(error) if result is None else result.error.detail
            _log.warning("allocation failed", call_id=call_id, relay=link.address, reason=detail)
            if result is None:
                # Its outcome is unknown: whatever it took is given back.
                link.client.submit(pb.Command(release=pb.ReleaseRequest(call_id=call_id)), _ignore)
            self._try(call_id, endpoints, answer, tried)

        request = pb.AllocateRequest(call_id=call_id, endpoints=[_endpoint(e, relatch=True) for e in endpoints])
        link.client.submit(pb.Command(allocate=request), done, timeout_s=TIMEOUT_S)

    def update(self, call_id: str, slot: Slot, endpoints: list[StreamEndpoint]) -> None:
        """Tells new endpoints; a failure shows as a media timeout."""
        link = self._by_id.get(slot.relay)
        if link is None:
            _log.warning("update without relay", call_id=call_id, relay=slot.relay)
            return

        def done(result: pb.Result | None, error: ServiceError | None) -> None:
            if result is None or result.HasField("error"):
                self.failures += 1
                detail = str(error) if result is None else result.error.detail
                _log.warning("update failed", call_id=call_id, relay=slot.relay, reason=detail)
            else:
                self._refused(call_id, slot.relay, result.update.refused)

        request = pb.UpdateRequest(call_id=call_id, endpoints=[_endpoint(e, relatch=True) for e in endpoints])
        link.client.submit(pb.Command(update=request), done, timeout_s=TIMEOUT_S)

    def _refused(self, call_id: str, relay: str, refused: Iterable[pb.RefusedEndpoint]) -> None:
        """Endpoints that the relay did not take: their stream is silent, the call goes on."""
        for one in refused:
            self.failures += 1
            _log.warning("endpoint refused", call_id=call_id, relay=relay, side=one.side, reason=one.detail)

    def release(self, call_id: str, slot: Slot) -> None:
        """Gives a slot back; where the word is lost the relay's lease does it. Nobody waits for the answer."""
        link = self._by_id.get(slot.relay)
        if link is not None:
            command = pb.Command(release=pb.ReleaseRequest(call_id=call_id, quiet=True))
            link.client.submit(command, _ignore, timeout_s=TIMEOUT_S, urgent=False)


def _ignore(result: pb.Result | None, error: ServiceError | None) -> None:
    """The answer does not matter; the relay's lease is behind it."""


def _endpoint(endpoint: StreamEndpoint, *, relatch: bool) -> pb.StreamEndpoint:
    message = pb.StreamEndpoint(
        side=pb.Side.ValueType(endpoint.side),
        media=pb.Media.ValueType(endpoint.media),
        direction=pb.Direction.ValueType(endpoint.direction),
        rtcp_mux=endpoint.rtcp_mux,
        signaling_host=utf8(endpoint.signaling_host),
        relatch=relatch,
        no_rtcp=not endpoint.rtcp_port,
        payload_types=[
            pb.PayloadType(
                number=codec.number,
                encoding=utf8(codec.encoding),
                clock_rate_hz=codec.clock_rate_hz,
                channels=codec.channels,
                ptime_ms=codec.ptime_ms,
            )
            for codec in endpoint.codecs
        ],
    )
    if endpoint.port:
        message.rtp.host, message.rtp.port = utf8(endpoint.host), endpoint.port
        if endpoint.rtcp_port:
            message.rtcp.host, message.rtcp.port = utf8(endpoint.rtcp_host), endpoint.rtcp_port
    return message


def _slot(response: pb.AllocateResponse) -> Slot:
    return Slot(
        relay=response.relay_id,
        index=response.slot,
        host4=next((host for host in response.hosts if ":" not in host), ""),
        host6=next((host for host in response.hosts if ":" in host), ""),
        ports={(int(p.side), int(p.media)): (p.rtp_port, p.rtcp_port) for p in response.ports},
    )
