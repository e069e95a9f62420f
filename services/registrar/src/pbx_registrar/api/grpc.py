"""pbx.registrar.v1.RegistrarService: the batched stream, its unary twins, lists and watches.

Commands of the stream are answered by callbacks of Redis or the cache of accounts: no task and no future each. The
stored record is the look-up's answer, so a look-up parses it straight into the result.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from pbx.registrar.v1 import registrar_pb2 as pb
from pbx.registrar.v1 import registrar_pb2_grpc
from pbx_registrar.answer import answer
from pbx_registrar.api import convert
from pbx_registrar.api.follow import serve_follow
from pbx_registrar.authenticate import Judgement
from pbx_registrar.bindings import ChangeKind, Outcome, Report
from pbx_registrar.codec import flow_of
from pbx_registrar.credentials import Account
from pbx_registrar.followers import Followers
from pbx_registrar.observe import Observer
from pbx_registrar.register import Registrar, Reply
from pbx_registrar.storage.base import Done, Record
from pbx_runtime.batch_server import Context, Handler, Replies, serve_batches
from pbx_runtime.errors import InvalidArgument, ResourceExhausted, ServiceError, Unavailable

PAGE_DEFAULT: Final = 100
PAGE_MAX: Final = 1_000
WATCHERS_MAX: Final = 32
"""Streams of Watch at once; each holds a connection to Redis."""
Subscribe = Callable[[], AsyncIterator[bytes | None]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Operations:
    """What the stream and its twins have in common; answers by callbacks."""

    registrar: Registrar
    observer: Observer

    def register(self, request: pb.RegisterRequest, done: Done[pb.RegisterResponse]) -> None:
        """A REGISTER. Raises InvalidArgument."""

        def replied(reply: Reply | None, error: ServiceError | None) -> None:
            self.observer.registered(reply.outcome.status if reply is not None else None)
            done(convert.register_response(reply) if reply is not None else None, error)

        attempt = convert.attempt_of(request.credentials) if request.HasField("credentials") else None
        self.registrar.register(convert.registration_of(request), attempt, replied)

    def lookup(self, request: pb.LookupRequest, answer_into: pb.LookupResponse, done: Done[bool]) -> None:
        """Fill a message with where a user can be reached."""
        lookups = self.observer.lookups
        try:
            aor = convert.aor_of(request.aor)
        except InvalidArgument:  # `sip:pbx.local`, without a user: nobody
            lookups["unknown"].inc()
            done(True, None)
            return

        names = alike(aor)

        def found(account: Account | None, error: ServiceError | None) -> None:
            if account is not None:
                self.registrar.store.read(account.aor, read)
            elif error is None and names:
                self.registrar.accounts.find(names.pop(), found)
            else:
                lookups["unknown" if error is None else "error"].inc()
                done(None if error is not None else True, error)

        def read(record: Record | None, error: ServiceError | None) -> None:
            if record is None:
                lookups["error"].inc()
                done(None, error)
                return
            answer_into.ParseFromString(record.payload)
            answer_into.known = True
            drop_expired(answer_into, self.registrar.clock.epoch_ms())
            lookups["found" if answer_into.bindings else "not_registered"].inc()
            done(True, None)

        self.registrar.accounts.find(aor, found)

    def authenticate(self, request: pb.AuthenticateRequest, done: Done[pb.AuthenticateResponse]) -> None:
        """A digest response."""

        def judged(judgement: Judgement | None, error: ServiceError | None) -> None:
            done(convert.authenticate_response(judgement) if judgement is not None else None, error)

        self.registrar.authenticator.check(convert.attempt_of(request), judged)

    def unregister(self, request: pb.UnregisterRequest, done: Done[pb.UnregisterResponse]) -> None:
        """A removal. Raises InvalidArgument."""

        def removed(outcome: Outcome | None, error: ServiceError | None) -> None:
            done(pb.UnregisterResponse(removed=removals(outcome)) if outcome is not None else None, error)

        flow = flow_of(request.flow) if request.HasField("flow") else None
        self.registrar.unregister(convert.aor_of(request.aor), request.uri, flow, removed)

    def report(self, request: pb.ReportRequest, done: Done[pb.ReportResponse]) -> None:
        """What a keep-alive found out. Raises InvalidArgument."""
        flow = flow_of(request.flow)

        def noted(outcome: Outcome | None, error: ServiceError | None) -> None:
            bindings = outcome.bindings if outcome is not None else ()
            meant = sum(binding.is_kept_by(flow) for binding in bindings)
            done(pb.ReportResponse(bindings=meant) if outcome is not None else None, error)

        report = Report(request.reachable, request.round_trip_ms)
        self.registrar.report(convert.aor_of(request.aor), flow, report, noted)


def alike(aor: str) -> list[str]:
    """By what name a user is called who is not known by the one that was dialled: people write `Bob` for `bob`.

    Deliberately wider than RFC 3261 section 19.1.4, which compares users by case; the exact name comes first.
    """
    user, _, domain = aor.rpartition("@")
    lower = user.lower()
    return [f"{lower}@{domain}"] if lower != user else []


def removals(outcome: Outcome) -> int:
    """How many bindings an outcome removed."""
    return sum(change.kind is ChangeKind.REMOVED for change in outcome.changes)


def drop_expired(response: pb.LookupResponse, now_ms: int) -> None:
    """Leave out what ran out and was not swept yet."""
    bindings = response.bindings
    for index in reversed(range(len(bindings))):
        if bindings[index].expires_at_ms <= now_ms:
            del bindings[index]


class RegistrarServicer(registrar_pb2_grpc.RegistrarServiceServicer):
    """The service."""

    def __init__(self, operations: Operations, subscribe: Subscribe, followers: Followers) -> None:
        self._operations = operations
        self._subscribe = subscribe
        self._followers = followers
        self._watchers = 0
        self._handler: Handler[pb.Command, pb.Result] = Handler(
            commands_of=lambda request: request.commands,
            handle=self._handle,
            make_response=lambda results: pb.SessionResponse(results=results),
            failed=_failed,
        )

    async def Session(  # type: ignore[override]  # grpc.aio takes a coroutine that writes, too
        self, requests: AsyncIterator[pb.SessionRequest], context: Context
    ) -> None:
        """See the contract."""
        await serve_batches(requests, context, self._handler)

    def _handle(self, command: pb.Command, replies: Replies[pb.Result]) -> None:
        result = pb.Result(id=command.id)
        operations = self._operations

        def done(message: Any, error: ServiceError | None) -> None:
            if error is not None:
                result.error.CopyFrom(convert.error_message(error))
            elif message is not True:
                getattr(result, str(kind)).CopyFrom(message)
            replies.reply(result)

        kind = command.WhichOneof("command")
        match kind:
            case "lookup":
                result.lookup.SetInParent()
                operations.lookup(command.lookup, result.lookup, done)
            case "authenticate":
                operations.authenticate(command.authenticate, done)
            case "register":
                operations.register(command.register, done)
            case "unregister":
                operations.unregister(command.unregister, done)
            case "report":
                operations.report(command.report, done)
            case _:
                raise InvalidArgument("a command without an operation")

    async def Register(self, request: pb.RegisterRequest, context: Any) -> pb.RegisterResponse:
        """See the contract."""
        return _there(await answer(self._operations.register, request))

    async def Unregister(self, request: pb.UnregisterRequest, context: Any) -> pb.UnregisterResponse:
        """See the contract."""
        return _there(await answer(self._operations.unregister, request))

    async def Lookup(self, request: pb.LookupRequest, context: Any) -> pb.LookupResponse:
        """See the contract."""
        response = pb.LookupResponse()
        await answer(self._operations.lookup, request, response)
        return response

    async def Authenticate(self, request: pb.AuthenticateRequest, context: Any) -> pb.AuthenticateResponse:
        """See the contract."""
        return _there(await answer(self._operations.authenticate, request))

    async def ListBindings(self, request: pb.ListBindingsRequest, context: Any) -> pb.ListBindingsResponse:
        """See the contract. A page may hold more bindings than asked for: those of its last user stay together."""
        registrar = self._operations.registrar
        if request.aor:
            record = await answer(registrar.store.read, convert.aor_of(request.aor))
            return self._page([record.payload] if record is not None else [], "")
        limit = page_size(request.page_size)
        rows = await answer(registrar.store.page, request.page_token, limit) or []
        last = rows[-1][0] if len(rows) == limit else ""
        return self._page([payload for _, payload in rows], last)

    def _page(self, payloads: list[bytes], next_token: str) -> pb.ListBindingsResponse:
        response = pb.ListBindingsResponse(next_page_token=next_token)
        now_ms = self._operations.registrar.clock.epoch_ms()
        for payload in payloads:
            stored = pb.LookupResponse.FromString(payload)
            drop_expired(stored, now_ms)
            response.bindings.extend(stored.bindings)
        return response

    async def Watch(self, request: pb.WatchRequest, context: Any) -> AsyncIterator[pb.WatchResponse]:
        """See the contract. Ends with UNAVAILABLE where changes may have been missed: list, then watch again."""
        if self._watchers >= WATCHERS_MAX:
            raise ResourceExhausted(f"{WATCHERS_MAX} watchers are there already")
        wanted = convert.aor_of(request.aor) if request.aor else ""
        self._watchers += 1
        try:
            async for notice in self._subscribe():
                if notice is None:
                    await context.send_initial_metadata(())
                    continue
                change = pb.WatchResponse.FromString(notice)
                if not wanted or change.binding.aor == wanted:
                    yield change
        finally:
            self._watchers -= 1

    async def Follow(  # type: ignore[override]  # grpc.aio takes a coroutine that writes, too
        self, requests: AsyncIterator[pb.FollowRequest], context: Context
    ) -> None:
        """See the contract."""
        await serve_follow(self._followers, requests, context)


def page_size(asked: int) -> int:
    """The size of a page: the default for 0, and never more than the most."""
    return min(asked or PAGE_DEFAULT, PAGE_MAX)


def _failed(command: pb.Command, error: Exception) -> pb.Result:
    return pb.Result(id=command.id, error=convert.error_message(error))


def _there(message: T | None) -> T:
    if message is None:
        raise Unavailable("no answer")
    return message
