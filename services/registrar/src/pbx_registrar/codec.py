"""Bindings as stored and told: domain values to and from serialised protos.

A record's payload is a serialised `LookupResponse` (known, bindings best first): a look-up answers it as it is. This
module and `api/` are the only ones that know generated types.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ulid import ULID

from pbx.events.v1 import events_pb2
from pbx.registrar.v1 import registrar_pb2 as pb
from pbx_registrar.bindings import Binding, Change, ChangeKind, Flow
from pbx_registrar.storage.base import Refusals

UNTOLD: Final = frozenset({ChangeKind.REFRESHED, ChangeKind.REPORTED})
"""Changes that are no events."""
TRANSPORTS: Final = {1: "udp", 2: "tcp", 3: "tls", 4: "ws", 5: "wss"}


def flow_of(message: pb.Flow) -> Flow:
    """The flow that a message names."""
    return Flow(
        message.transport,
        message.host,
        message.port,
        message.instance_id,
        message.connection_id,
        message.listener,
    )


def binding_of(message: pb.Binding) -> Binding:
    """The binding that a message holds."""
    return Binding(
        message.aor,
        message.uri,
        message.q_thousandths,
        message.expires_at_ms,
        flow_of(message.flow),
        tuple(message.path),
        message.call_id,
        message.cseq,
        message.user_agent,
        message.sip_instance,
        message.reg_id,
        message.registered_at_ms,
        message.refreshed_at_ms,
        message.unreachable_since_ms,
        message.round_trip_ms,
    )


def binding_message(binding: Binding) -> pb.Binding:
    """A binding as a message."""
    flow = binding.flow
    return pb.Binding(
        aor=binding.aor,
        uri=binding.uri,
        q_thousandths=binding.q_thousandths,
        expires_at_ms=binding.expires_at_ms,
        flow=pb.Flow(
            transport=pb.Transport.ValueType(flow.transport),
            host=flow.host,
            port=flow.port,
            instance_id=flow.instance_id,
            connection_id=flow.connection_id,
            listener=flow.listener,
        ),
        path=binding.path,
        call_id=binding.call_id,
        cseq=binding.cseq,
        user_agent=binding.user_agent,
        sip_instance=binding.sip_instance,
        reg_id=binding.reg_id,
        registered_at_ms=binding.registered_at_ms,
        refreshed_at_ms=binding.refreshed_at_ms,
        unreachable_since_ms=binding.unreachable_since_ms,
        round_trip_ms=binding.round_trip_ms,
    )


def source_of(flow: Flow) -> str:
    """Where a phone is, as events say it: transport:host:port."""
    host = f"[{flow.host}]" if ":" in flow.host else flow.host
    return f"{TRANSPORTS.get(flow.transport, 'unknown')}:{host}:{flow.port}"


@dataclass(frozen=True, slots=True)
class ProtoCodec:
    """`register.Codec`; `source` names the writer of events ("registrar/<instance>")."""

    source: str

    def decode(self, aor: str, payload: bytes) -> list[Binding]:
        """See `Codec`."""
        return [binding_of(message) for message in pb.LookupResponse.FromString(payload).bindings]

    def encode(self, bindings: Sequence[Binding]) -> bytes:
        """See `Codec`."""
        if not bindings:
            return b""
        messages = [binding_message(binding) for binding in bindings]
        return pb.LookupResponse(known=True, bindings=messages).SerializeToString()

    def events(self, changes: Sequence[Change], now_ms: int) -> tuple[bytes, ...]:
        """See `Codec`."""
        return tuple(self._event(change, now_ms) for change in changes if change.kind not in UNTOLD)

    def notices(self, changes: Sequence[Change]) -> tuple[bytes, ...]:
        """See `Codec`."""
        return tuple(
            pb.WatchResponse(
                change=pb.Change.ValueType(change.kind), binding=binding_message(change.binding)
            ).SerializeToString()
            for change in changes
        )

    @staticmethod
    def notice(message: bytes) -> tuple[str, int]:
        """The address-of-record and the revision of a notice; revision 0 where its writer did not count."""
        change = pb.WatchResponse.FromString(message)
        return change.binding.aor, change.revision

    def refused(self, refusals: Refusals, now_ms: int) -> bytes:
        """`security.auth_failed` for the failures of one source."""
        event = self._new_event(now_ms)
        failed = event.security_auth_failed
        failed.source_host = refusals.source
        failed.user = refusals.user
        failed.count = refusals.count
        failed.method = refusals.method
        return event.SerializeToString()

    def _new_event(self, now_ms: int) -> events_pb2.Event:
        return events_pb2.Event(id=str(ULID()), at_ms=now_ms, source=self.source)

    def _event(self, change: Change, now_ms: int) -> bytes:
        event, binding = self._new_event(now_ms), change.binding
        match change.kind:
            case ChangeKind.ADDED:
                added = event.registration_added
                added.aor, added.contact = binding.aor, binding.uri
                added.source = source_of(binding.flow)
                added.user_agent = binding.user_agent
                added.expires_s = max(0, round((binding.expires_at_ms - now_ms) / 1000))
            case ChangeKind.EXPIRED:
                event.registration_expired.aor = binding.aor
                event.registration_expired.contact = binding.uri
            case _:
                event.registration_removed.aor = binding.aor
                event.registration_removed.contact = binding.uri
        return event.SerializeToString()
