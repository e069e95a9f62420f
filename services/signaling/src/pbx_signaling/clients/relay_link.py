"""One relay: its stream, what it last said of itself, and the slots that it granted ahead of calls."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Final, Protocol

from pbx.relay.v1 import relay_pb2 as pb
from pbx.relay.v1 import relay_pb2_grpc
from pbx_runtime import logs
from pbx_runtime.batch_stream import BatchClient, Codec
from pbx_runtime.errors import ServiceError
from pbx_runtime.grpc_channel import open_channel
from pbx_signaling.calls.signals import MediaSilent, Signal
from pbx_signaling.media.ahead import Ahead, slot_of
from pbx_signaling.media.stream import Slot

if TYPE_CHECKING:
    from collections.abc import Iterable

    import grpc.aio

    from pbx_runtime.grpc_credentials import GrpcCredentials

LEASE_S: Final = 30
"""How long our calls keep their slots when our stream breaks: longer than a restart, within the promised minute."""
GRANT_S: Final = 2.0
RELEASE_S: Final = 2.0
OWED_MAX: Final = 10_000
"""Calls that ended while their relay could not be told: more than a shard has slots. Beyond, the oldest are dropped."""

_log = logs.get_logger("relay")


class Owner(Protocol):
    """Whoever has the links."""

    credentials: GrpcCredentials | None
    tally: Tally

    def on_hosts(self, hosts: Iterable[str]) -> None:
        """Told of the addresses of each relay."""

    def on_signal(self, call_id: str, signal: Signal) -> None:
        """Told of what happened to a call's media."""

    def changed(self) -> None:
        """A relay's state changed."""

    def went(self, relay_id: str) -> None:
        """The stream to a relay broke."""


class Tally:
    """What became of slots granted ahead."""

    def __init__(self) -> None:
        self.granted = 0
        self.used = 0
        self.returned = 0
        """Given back unused, or lost with the stream."""
        self.refused = 0
        """The relay did not take the call on a slot that it had granted."""


class RelayLink:
    """One relay."""

    def __init__(self, address: str, instance: str, owner: Owner, owed: dict[str, None]) -> None:
        """`owed`: the calls whose slots that relay was not told of to be free; outlives this link."""
        self.address = address
        self._owed = owed
        self.relay_id = ""
        self.slots_free = 0
        self.is_ready = False
        self.ahead = Ahead()
        self._grants = True
        """Whether it knows what a grant is: one of the version before does not."""
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
        return self.client.is_up and self.is_ready and (self.slots_free > 0 or len(self.ahead) > 0)

    @property
    def room(self) -> int:
        """Slots for further calls of ours, as far as is known."""
        return self.slots_free + len(self.ahead)

    def take(self, shunned: Collection[int]) -> Slot | None:
        """A slot granted ahead, if there is one; more are asked for in time."""
        slot = self.ahead.take(shunned)
        self.top_up()
        if slot is not None:
            self._owner.tally.used += 1
        return slot

    def release(self, call_id: str) -> None:
        """Gives a call's slot back, now or when the relay can be told: while we live, it keeps what it has of ours."""

        def done(result: pb.Result | None, error: ServiceError | None) -> None:
            if result is None:
                owe(self._owed, call_id)

        command = pb.Command(release=pb.ReleaseRequest(call_id=call_id, quiet=True))
        self.client.submit(command, done, timeout_s=RELEASE_S, urgent=False)

    def top_up(self) -> None:
        """Asks for slots where few are left. Nobody waits for them: the question goes with others."""
        if not (self.client.is_up and self.is_ready and self._grants):
            return
        count = self.ahead.missing()
        if count:
            command = pb.Command(grant=pb.GrantRequest(count=count))
            self.client.submit(command, self._granted, timeout_s=GRANT_S, urgent=False)

    def leave(self) -> None:
        """Returns what was granted, and asks for no more: this process ends."""
        self._grants = False
        self.give_back()

    def give_back(self) -> None:
        """Returns what was granted: the relay drains, or this process ends."""
        numbers = self.ahead.clear()
        if numbers:
            self._owner.tally.returned += len(numbers)
            self._return(numbers)

    def _return(self, numbers: list[int]) -> None:
        command = pb.Command(give_back=pb.ReturnRequest(slots=numbers))
        self.client.submit(command, _ignore, timeout_s=GRANT_S, urgent=False)

    def _granted(self, result: pb.Result | None, error: ServiceError | None) -> None:
        if result is None or not result.HasField("grant"):
            if result is not None and result.error.code == pb.ERROR_CODE_INVALID_ARGUMENT:
                self._grants = False
                _log.info("relay grants no slots ahead", relay=self.address)
            self.ahead.add(())
            return
        grant = result.grant
        self._owner.tally.granted += len(grant.slots)
        if self.is_ready and self._grants:
            self.ahead.add(slot_of(grant.relay_id, number, grant.hosts) for number in grant.slots)
        elif grant.slots:
            self._owner.tally.returned += len(grant.slots)
            self._return(list(grant.slots))

    def _heard(self, response: pb.SessionResponse) -> None:
        if response.HasField("status"):
            status = response.status
            self.relay_id = status.relay_id
            self.slots_free = status.slots_free
            self.is_ready = status.state == pb.RELAY_STATE_READY
            self._owner.on_hosts(status.hosts)
            self._owner.changed()
            self.ahead.may_ask()
        for event in response.events:
            if event.HasField("media_timeout"):
                self._owner.on_signal(event.call_id, MediaSilent(event.media_timeout.silent_s))
            elif event.HasField("draining"):
                self.is_ready = False
                self._owner.changed()
        if self.is_ready:
            self.top_up()
        else:
            self.give_back()

    def _changed(self, up: bool) -> None:
        if up:
            owed = list(self._owed)
            self._owed.clear()
            for call_id in owed:
                self.release(call_id)
        else:
            self.is_ready = False
            # The relay begins anew with our next stream: none of these is ours then.
            self._owner.tally.returned += len(self.ahead.clear())
            self.ahead.may_ask()
            if self.relay_id:
                self._owner.went(self.relay_id)
        self._owner.changed()


def owe(owed: dict[str, None], call_id: str) -> None:
    """Notes a call whose relay could not be told that its slot is free."""
    owed[call_id] = None
    if len(owed) > OWED_MAX:
        del owed[next(iter(owed))]


def _ignore(result: pb.Result | None, error: ServiceError | None) -> None:
    """The answer does not matter; the relay's lease is behind it."""
