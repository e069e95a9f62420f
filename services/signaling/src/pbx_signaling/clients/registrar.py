"""The registrar over its batched stream: authentication, look-ups, REGISTER."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any, Final

from pbx.registrar.v1 import registrar_pb2 as pb
from pbx.registrar.v1 import registrar_pb2_grpc
from pbx_runtime.batch_stream import BatchClient, Codec
from pbx_runtime.errors import ServiceError
from pbx_runtime.grpc_channel import map_rpc_errors, open_channel
from pbx_signaling.calls.signals import (
    Authenticated,
    Found,
    LookupFailed,
    Refused,
    ServiceFailed,
    Signal,
)
from pbx_signaling.clients.follow import bindings_of
from pbx_signaling.users.questions import CurrentBinding, Registered
from pbx_sip.address import Flow, HostPort, Transport
from pbx_sip.message.text import printable, utf8

if TYPE_CHECKING:
    import grpc.aio

    from pbx_runtime.grpc_credentials import GrpcCredentials
    from pbx_signaling.directory.user import Binding
    from pbx_signaling.users.attempt import Attempt
    from pbx_signaling.users.keepalive import Finding
    from pbx_signaling.users.questions import Register
    from pbx_sip.header.contact import RegisterContact

TIMEOUT_S: Final = 3.0
"""An answer that takes longer finds a caller that has given up (the core's SETUP deadline is 5 s)."""
RETRY_AFTER_S: Final = 5
PAGE: Final = 1_000
"""Bindings of one page."""
LIST_S: Final = 5.0
"""For one page of bindings; nobody waits for it."""

REFUSALS: Final = {
    pb.VERDICT_STALE: Refused(407, stale=True),
    pb.VERDICT_REJECTED: Refused(403),
    pb.VERDICT_MALFORMED: Refused(400),
    pb.VERDICT_FORBIDDEN: Refused(403),
}


class GrpcRegistrar:
    """One registrar (or the service in front of its replicas)."""

    def __init__(
        self,
        address: str,
        instance: str,
        on_state: Callable[[bool], None],
        credentials: GrpcCredentials | None = None,
    ) -> None:
        self._instance = instance
        self.on_bound: Callable[[str, tuple[Binding, ...]], None] = lambda aor, bindings: None
        """Told of the bindings that a user has after a REGISTER."""
        self._channel: grpc.aio.Channel = open_channel(address, credentials)
        stub = registrar_pb2_grpc.RegistrarServiceStub(self._channel)
        self._stub: Any = stub
        codec: Codec[pb.Command, pb.Result] = Codec(
            make_request=lambda commands: pb.SessionRequest(commands=commands),
            results_of=lambda response: response.results,
            on_state=on_state,
        )
        open_stream: Any = stub.Session
        self.client: BatchClient[pb.Command, pb.Result] = BatchClient("registrar", open_stream, codec)

    def open_follow(self) -> Any:
        """A stream for `follow.FollowStream`."""
        return self._stub.Follow()

    async def close(self) -> None:
        """Closes the channel."""
        await self._channel.close(None)

    def authenticate(
        self, attempt: Attempt, method: str, answer: Callable[[Signal], None], timeout_s: float = TIMEOUT_S
    ) -> None:
        """Verifies the caller's credentials."""
        command = pb.Command(
            authenticate=pb.AuthenticateRequest(
                method=method,
                authorization=utf8(attempt.authorization),
                body=attempt.body,
                aor=printable(attempt.claimed),
                source_host=attempt.source.host,
                nonce_source=attempt.nonce_source,
            )
        )

        def done(result: pb.Result | None, error: ServiceError | None) -> None:
            answer(_verdict(result, error))

        self.client.submit(command, done, timeout_s=timeout_s)

    def find(self, aor: str, answer: Callable[[Signal], None], timeout_s: float = TIMEOUT_S) -> None:
        """Looks an address-of-record up."""

        def done(result: pb.Result | None, error: ServiceError | None) -> None:
            if result is None or result.HasField("error"):
                failure = _failure(result, error)
                answer(LookupFailed(failure.detail, failure.retry_after_s))
            else:
                found = result.lookup
                name = found.bindings[0].aor if found.bindings else ""  # one for all: as the account is written
                answer(Found(found.known, [binding.target(name) for binding in bindings_of(found.bindings)]))

        self.client.submit(pb.Command(lookup=pb.LookupRequest(aor=printable(aor))), done, timeout_s=timeout_s)

    def register(self, ask: Register, answer: Callable[[Registered], None]) -> None:
        """Puts a REGISTER to the registrar."""
        flow = ask.flow
        request = pb.RegisterRequest(
            aor=printable(ask.aor),
            contacts=[_contact(contact) for contact in ask.contacts],
            remove_all=ask.remove_all,
            call_id=printable(ask.call_id),
            cseq=ask.cseq,
            flow=self._flow(flow),
            path=[printable(value) for value in ask.path],
            user_agent=printable(ask.user_agent),
        )
        if ask.authorization:
            request.credentials.CopyFrom(
                pb.AuthenticateRequest(
                    method="REGISTER",
                    authorization=utf8(ask.authorization),
                    body=ask.body,
                    aor=printable(ask.aor),
                    source_host=flow.remote.host,
                    nonce_source=ask.nonce_source,
                )
            )

        def done(result: pb.Result | None, error: ServiceError | None) -> None:
            if result is None or result.HasField("error"):
                answer(Registered(503, retry_after_s=_failure(result, error).retry_after_s))
            else:
                if result.register.status == 200:
                    self.on_bound(ask.aor, bindings_of(result.register.bindings))
                answer(_registered(result.register))

        self.client.submit(pb.Command(register=request), done, timeout_s=TIMEOUT_S)

    def unregister(self, aor: str, flow: Flow, answer: Callable[[bool], None]) -> None:
        """Removes the bindings of an address-of-record that came over a flow of ours; whether that was done."""
        request = pb.UnregisterRequest(aor=printable(aor), flow=self._flow(flow))

        def done(result: pb.Result | None, error: ServiceError | None) -> None:
            answer(result is not None and not result.HasField("error"))

        self.client.submit(pb.Command(unregister=request), done, timeout_s=TIMEOUT_S)

    def report(self, finding: Finding, answer: Callable[[bool], None]) -> None:
        """Tells what a keep-alive found out; answers whether its binding is still there, so far as that is known."""
        request = pb.ReportRequest(
            aor=utf8(finding.aor),
            flow=self._flow(finding.flow, finding.instance),
            reachable=finding.reachable,
            round_trip_ms=ceil(finding.round_trip_s * 1000),
        )

        def done(result: pb.Result | None, error: ServiceError | None) -> None:
            answer(result is None or result.HasField("error") or result.report.bindings > 0)

        self.client.submit(pb.Command(report=request), done, timeout_s=TIMEOUT_S)

    async def bindings(self) -> AsyncIterator[Listed]:
        """All bindings on UDP. Raises ServiceError."""
        token = ""
        while True:
            with map_rpc_errors():
                request = pb.ListBindingsRequest(page_size=PAGE, page_token=token)
                page = await self._stub.ListBindings(request, timeout=LIST_S)
            for binding in page.bindings:
                if binding.flow.transport == pb.TRANSPORT_UDP:
                    yield _listed(binding)
            token = page.next_page_token
            if not token:
                return

    def _flow(self, flow: Flow, owner: str = "") -> pb.Flow:
        listener, _, instance = flow.listener.partition("@")
        return pb.Flow(
            transport=pb.Transport.ValueType(flow.transport),
            host=flow.remote.host,
            port=flow.remote.port,
            instance_id=owner or instance or self._instance,
            connection_id=flow.connection,
            listener=listener,
        )


@dataclass(frozen=True, slots=True)
class Listed:
    """A binding on UDP, as the keep-alive of another replica, or of the process before this one, left it."""

    aor: str
    uri: str
    flow: Flow
    path: tuple[str, ...]
    instance: str
    expires_at_ms: int


def _listed(binding: pb.Binding) -> Listed:
    flow = binding.flow
    where = Flow(Transport.UDP, HostPort(flow.host, flow.port), flow.listener)
    return Listed(binding.aor, binding.uri, where, tuple(binding.path), flow.instance_id, binding.expires_at_ms)


def _verdict(result: pb.Result | None, error: ServiceError | None) -> Signal:
    if result is None or result.HasField("error"):
        return _failure(result, error)
    response = result.authenticate
    if response.verdict == pb.VERDICT_ACCEPTED:
        return Authenticated(response.user, response.display_name, response.calls_max)
    if response.verdict == pb.VERDICT_THROTTLED:
        return Refused(403, retry_after_s=response.retry_after_s)
    return REFUSALS.get(response.verdict, Refused(403))


def _failure(result: pb.Result | None, error: ServiceError | None) -> ServiceFailed:
    if result is not None:
        return ServiceFailed(result.error.detail, result.error.retry_after_s or RETRY_AFTER_S)
    return ServiceFailed(str(error), RETRY_AFTER_S)


def _contact(contact: RegisterContact) -> pb.Contact:
    return pb.Contact(
        uri=printable(contact.uri),
        expires_s=contact.expires_s,
        q_thousandths=contact.q_thousandths,
        sip_instance=printable(contact.sip_instance),
        reg_id=contact.reg_id,
    )


def _registered(response: pb.RegisterResponse) -> Registered:
    now_ms = time.time() * 1000
    return Registered(
        status=response.status,
        reason=response.reason,
        bindings=[
            CurrentBinding(
                binding.uri,
                binding.q_thousandths,
                max(0, round((binding.expires_at_ms - now_ms) / 1000)),
                binding.sip_instance,
                binding.reg_id,
            )
            for binding in response.bindings
        ],
        min_expires_s=response.min_expires_s,
        stale=response.stale,
        outbound=response.outbound,
        retry_after_s=RETRY_AFTER_S if response.status == 503 else 0,
    )
