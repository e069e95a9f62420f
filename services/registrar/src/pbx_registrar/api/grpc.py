"""RegistrarService and AccountService (pbx.registrar.v1): contract to domain and back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Final

from pbx.registrar.v1 import registrar_pb2 as pb
from pbx.registrar.v1 import registrar_pb2_grpc
from pbx_registrar.accounts.cache import AccountCache
from pbx_registrar.accounts.model import MAX_NAME, MAX_PASSWORD, Account, AccountStore, hashes_of
from pbx_registrar.authenticate import Answer, Authenticator, Claim, Verdict
from pbx_registrar.bindings import Registration, RequestedContact
from pbx_registrar.observe import Observer
from pbx_registrar.register import Registrar
from pbx_registrar.storage.redis import flow_of, message_of
from pbx_registrar.watch import Watchers
from pbx_runtime.batch_server import Handler, Replies, serve_batches
from pbx_runtime.errors import InvalidArgument
from pbx_runtime.redis_pipe import PipelinedRedis

PAGE_DEFAULT: Final = 100
PAGE_MAX: Final = 1000
RETRY_AFTER_S: Final = 5

Context = Any


def _now_ms() -> int:
    return int(time.time() * 1000)


class RegistrarService(registrar_pb2_grpc.RegistrarServiceServicer):
    """Bindings and authentication."""

    def __init__(
        self, registrar: Registrar, authenticator: Authenticator, accounts: AccountCache, observer: Observer
    ) -> None:
        self._registrar = registrar
        self._authenticator = authenticator
        self._accounts = accounts
        self._observer = observer
        self.watchers = Watchers()

    async def Session(self, request_iterator: AsyncIterator[pb.SessionRequest], context: Context) -> None:  # type: ignore[override]
        """The batched stream."""
        handler: Handler[pb.Command, pb.Result] = Handler(
            commands_of=lambda request: request.commands,
            handle=self._handle,
            make_response=lambda results: pb.SessionResponse(results=results),
            failed=lambda command, error: pb.Result(
                id=command.id, error=pb.Error(detail=str(error), retry_after_s=RETRY_AFTER_S)
            ),
        )
        await serve_batches(request_iterator, context, handler)

    def _handle(self, command: pb.Command, replies: Replies[pb.Result]) -> Coroutine[Any, Any, pb.Result]:
        return self._carry_out(command)

    async def _carry_out(self, command: pb.Command) -> pb.Result:
        match command.WhichOneof("command"):
            case "lookup":
                return pb.Result(id=command.id, lookup=await self._lookup(command.lookup))
            case "authenticate":
                return pb.Result(id=command.id, authenticate=await self._authenticate(command.authenticate))
            case "register":
                return pb.Result(id=command.id, register=await self._register(command.register))
            case "unregister":
                return pb.Result(id=command.id, unregister=await self._unregister(command.unregister))
        raise InvalidArgument("a command that is none")

    # --- unary twins

    async def Register(self, request: pb.RegisterRequest, context: Context) -> pb.RegisterResponse:
        """As the command."""
        return await self._register(request)

    async def Unregister(self, request: pb.UnregisterRequest, context: Context) -> pb.UnregisterResponse:
        """As the command."""
        return await self._unregister(request)

    async def Lookup(self, request: pb.LookupRequest, context: Context) -> pb.LookupResponse:
        """As the command."""
        return await self._lookup(request)

    async def Authenticate(self, request: pb.AuthenticateRequest, context: Context) -> pb.AuthenticateResponse:
        """As the command."""
        return await self._authenticate(request)

    async def ListBindings(self, request: pb.ListBindingsRequest, context: Context) -> pb.ListBindingsResponse:
        """All bindings, in order of address-of-record."""
        now = _now_ms()
        if request.aor:
            bindings, cursor = await self._registrar.lookup(request.aor, now), ""
        else:
            size = min(request.page_size or PAGE_DEFAULT, PAGE_MAX)
            bindings, cursor = await self._registrar.page(request.page_token, size, now)
        return pb.ListBindingsResponse(bindings=map(message_of, bindings), next_page_token=cursor)

    async def Watch(self, request: pb.WatchRequest, context: Context) -> AsyncIterator[pb.WatchResponse]:
        """Changes made through this replica, as they happen."""
        async for change in self.watchers.watch(request.aor):
            yield change

    # --- parts

    async def _lookup(self, request: pb.LookupRequest) -> pb.LookupResponse:
        bindings = await self._registrar.lookup(request.aor, _now_ms())
        if bindings:
            return pb.LookupResponse(known=True, bindings=map(message_of, bindings))
        user, _, domain = request.aor.rpartition("@")
        return pb.LookupResponse(known=await self._accounts.get(user, domain) is not None)

    async def _authenticate(self, request: pb.AuthenticateRequest) -> pb.AuthenticateResponse:
        answer = await self._verdict(request)
        account = answer.account
        return pb.AuthenticateResponse(
            verdict=pb.Verdict.ValueType(answer.verdict),
            user=account.user if account is not None else "",
            display_name=account.display_name if account is not None else "",
            retry_after_s=answer.retry_after_s,
        )

    async def _verdict(self, request: pb.AuthenticateRequest) -> Answer:
        claim = Claim(request.method, request.authorization, request.aor, request.source_host, request.body)
        answer = await self._authenticator.verify(claim)
        self._observer.authenticated(answer.verdict)
        return answer

    async def _register(self, request: pb.RegisterRequest) -> pb.RegisterResponse:
        if request.HasField("credentials"):
            answer = await self._verdict(request.credentials)
            refusal = REFUSALS.get(answer.verdict)
            if refusal is not None:
                self._observer.registered(refusal)
                return pb.RegisterResponse(status=refusal, stale=answer.verdict is Verdict.STALE)
        user, _, domain = request.aor.rpartition("@")
        if await self._accounts.get(user, domain) is None:
            self._observer.registered(404)
            return pb.RegisterResponse(status=404)
        decision = await self._registrar.register(_registration(request), _now_ms())
        self._observer.registered(decision.status)
        self.watchers.tell(decision)
        return pb.RegisterResponse(
            status=decision.status,
            bindings=map(message_of, decision.current),
            min_expires_s=decision.min_expires_s,
            outbound=decision.outbound,
        )

    async def _unregister(self, request: pb.UnregisterRequest) -> pb.UnregisterResponse:
        return pb.UnregisterResponse(removed=await self._registrar.remove(request.aor, request.uri, _now_ms()))


REFUSALS: Final = {
    Verdict.STALE: 401,
    Verdict.REJECTED: 403,
    Verdict.MALFORMED: 400,
    Verdict.THROTTLED: 403,
    Verdict.FORBIDDEN: 403,
}


def _registration(request: pb.RegisterRequest) -> Registration:
    return Registration(
        aor=request.aor,
        contacts=[
            RequestedContact(
                contact.uri,
                contact.expires_s if contact.HasField("expires_s") else None,
                contact.q_thousandths,
                contact.sip_instance,
                contact.reg_id,
            )
            for contact in request.contacts
        ],
        remove_all=request.remove_all,
        call_id=request.call_id,
        cseq=request.cseq,
        flow=flow_of(request.flow),
        path=tuple(request.path),
        user_agent=request.user_agent,
    )


class AccountService(registrar_pb2_grpc.AccountServiceServicer):
    """Accounts."""

    def __init__(
        self, domain: str, store: AccountStore, cache: AccountCache, redis: PipelinedRedis, registrar: Registrar
    ) -> None:
        self._domain = domain
        self._store = store
        self._cache = cache
        self._redis = redis
        self._registrar = registrar

    async def PutAccount(self, request: pb.PutAccountRequest, context: Context) -> pb.PutAccountResponse:
        """Creates or replaces an account."""
        domain = request.domain or self._domain
        _check(request.user, request.display_name, request.password)
        # Hashing three times is quick, but the loop has calls to serve.
        hashes = await asyncio.to_thread(hashes_of, request.user, domain, request.password)
        account = Account(request.user, domain, request.display_name, _now_ms(), hashes)
        created = await self._store.put(account)
        await self._cache.changed(self._redis)
        kept = await self._store.get(request.user, domain)
        return pb.PutAccountResponse(account=_message(kept or account), created=created)

    async def DeleteAccount(self, request: pb.DeleteAccountRequest, context: Context) -> pb.DeleteAccountResponse:
        """Removes an account and its bindings."""
        domain = request.domain or self._domain
        deleted = await self._store.delete(request.user, domain)
        await self._cache.changed(self._redis)
        await self._registrar.remove(f"{request.user}@{domain}", "", _now_ms())
        return pb.DeleteAccountResponse(deleted=deleted)

    async def ListAccounts(self, request: pb.ListAccountsRequest, context: Context) -> pb.ListAccountsResponse:
        """Accounts in order of user."""
        size = min(request.page_size or PAGE_DEFAULT, PAGE_MAX)
        user, _, domain = request.page_token.rpartition("@")
        found = await self._store.page((user, domain), size + 1)
        page = found[:size]
        cursor = f"{page[-1].user}@{page[-1].domain}" if len(found) > size else ""
        return pb.ListAccountsResponse(accounts=map(_message, page), next_page_token=cursor)


def _check(user: str, display_name: str, password: str) -> None:
    if not user or len(user) > MAX_NAME or any(char in user for char in '@:"\\ \r\n\t'):
        raise InvalidArgument("a user is 1 to 128 characters without @, colon, quote, backslash and white space")
    if len(display_name) > MAX_NAME or not display_name.isprintable():
        raise InvalidArgument("a display name is up to 128 printable characters")
    if not password or len(password) > MAX_PASSWORD:
        raise InvalidArgument("a password is 1 to 256 characters")


def _message(account: Account) -> pb.Account:
    return pb.Account(
        user=account.user,
        domain=account.domain,
        display_name=account.display_name,
        created_at_ms=account.created_at_ms,
    )
