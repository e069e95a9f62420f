"""What the registrar tells the world, as events of the contract (pbx.events.v1)."""

from __future__ import annotations

from ulid import ULID

from pbx.events.v1 import events_pb2 as pb
from pbx_registrar.bindings import Binding

TRANSPORTS = ("", "udp", "tcp", "tls", "ws", "wss")


def _event(now_ms: int, source: str) -> pb.Event:
    return pb.Event(id=str(ULID.from_timestamp(now_ms)), at_ms=now_ms, source=source)


def added(binding: Binding, source: str, now_ms: int) -> bytes:
    """A phone registered for the first time."""
    event = _event(now_ms, source)
    told = event.registration_added
    flow = binding.flow
    host = f"[{flow.host}]" if ":" in flow.host else flow.host
    told.aor, told.contact, told.user_agent = binding.aor, binding.uri, binding.user_agent
    told.source = f"{TRANSPORTS[flow.transport]}:{host}:{flow.port}"
    told.expires_s = max(0, (binding.expires_at_ms - now_ms) // 1000)
    return event.SerializeToString()


def removed(binding: Binding, source: str, now_ms: int) -> bytes:
    """A binding was removed by its phone or an administrator."""
    event = _event(now_ms, source)
    event.registration_removed.aor, event.registration_removed.contact = binding.aor, binding.uri
    return event.SerializeToString()


def expired(binding: Binding, source: str, now_ms: int) -> bytes:
    """A binding ran out."""
    event = _event(now_ms, source)
    event.registration_expired.aor, event.registration_expired.contact = binding.aor, binding.uri
    return event.SerializeToString()


def auth_failed(host: str, user: str, count: int, method: str, source: str, now_ms: int) -> bytes:
    """Refused credentials of one source, counted over a period."""
    event = _event(now_ms, source)
    told = event.security_auth_failed
    told.source_host, told.user, told.count, told.method = host, user, count, method
    return event.SerializeToString()
