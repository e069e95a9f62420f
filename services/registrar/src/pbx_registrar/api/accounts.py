"""pbx.registrar.v1.AccountService: administration of accounts, over SQL; and the notice to all replicas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from pbx.registrar.v1 import registrar_pb2 as pb
from pbx.registrar.v1 import registrar_pb2_grpc
from pbx_registrar.answer import answer
from pbx_registrar.api.convert import account_message
from pbx_registrar.api.grpc import page_size
from pbx_registrar.credentials import (
    ANYHOW,
    Account,
    Put,
    canonical_aor,
    check_calls_max,
    check_display_name,
    new_account,
)
from pbx_registrar.observe import Observer
from pbx_registrar.register import Registrar
from pbx_runtime.errors import NotFound


class AccountStore(Protocol):
    """Where accounts are kept."""

    async def put(self, account: Account, how: Put = ANYHOW) -> tuple[Account, bool]:
        """Create or replace. Raises AlreadyExists, NotFound."""

    async def load(self, aors: Sequence[str]) -> dict[str, Account]:
        """Those that exist, by address-of-record."""

    async def change(self, aor: str, display_name: str | None, calls_max: int | None) -> Account | None:
        """Change what is not None."""

    async def delete(self, aor: str) -> bool:
        """Remove."""

    async def page(self, after: str, limit: int) -> list[Account]:
        """In order."""


class Announce(Protocol):
    """Tells all replicas, this one first, that an account changed."""

    def __call__(self, aor: str) -> None:
        """It changed."""


class AccountServicer(registrar_pb2_grpc.AccountServiceServicer):
    """The service."""

    def __init__(
        self, store: AccountStore, registrar: Registrar, domain: str, announce: Announce, observer: Observer
    ) -> None:
        self._store = store
        self._registrar = registrar
        self._domain = domain
        self._announce = announce
        self._observer = observer

    async def PutAccount(self, request: pb.PutAccountRequest, context: Any) -> pb.PutAccountResponse:
        """See the contract."""
        domain = request.domain or self._domain
        now_ms = self._registrar.clock.epoch_ms()
        asked = new_account(request.user, domain, request.display_name, request.password, now_ms)
        check_calls_max(request.calls_max)
        asked = replace(asked, calls_max=request.calls_max)
        how = Put(
            keep_calls_max=not request.HasField("calls_max"),
            keep_name=not request.HasField("display_name"),
            must_be_new=request.mode == pb.PUT_MODE_CREATE,
            must_exist=request.mode == pb.PUT_MODE_REPLACE,
        )
        account, created = await self._store.put(asked, how)
        self._announce(account.aor)
        self._observer.account_put(account.aor, created)
        return pb.PutAccountResponse(account=account_message(account), created=created)

    async def UpdateAccount(self, request: pb.UpdateAccountRequest, context: Any) -> pb.UpdateAccountResponse:
        """See the contract."""
        aor = canonical_aor(request.user, request.domain or self._domain)
        display_name = request.display_name if request.HasField("display_name") else None
        calls_max = request.calls_max if request.HasField("calls_max") else None
        check_display_name(display_name or "")
        check_calls_max(calls_max or 0)
        account = await self._store.change(aor, display_name, calls_max)
        if account is None:
            raise NotFound(f"no account {aor}")
        self._announce(aor)
        self._observer.account_put(aor, created=False)
        return pb.UpdateAccountResponse(account=account_message(account))

    async def GetAccount(self, request: pb.GetAccountRequest, context: Any) -> pb.GetAccountResponse:
        """See the contract."""
        aor = canonical_aor(request.user, request.domain or self._domain)
        account = (await self._store.load([aor])).get(aor)
        if account is None:
            raise NotFound(f"no account {aor}")
        return pb.GetAccountResponse(account=account_message(account))

    async def DeleteAccount(self, request: pb.DeleteAccountRequest, context: Any) -> pb.DeleteAccountResponse:
        """See the contract. Bindings go even where the account is gone already: a second try completes the first."""
        aor = canonical_aor(request.user, request.domain or self._domain)
        deleted = await self._store.delete(aor)
        self._announce(aor)
        if deleted:
            self._observer.account_deleted(aor)
        await answer(self._registrar.unregister, aor, "", None)
        return pb.DeleteAccountResponse(deleted=deleted)

    async def ListAccounts(self, request: pb.ListAccountsRequest, context: Any) -> pb.ListAccountsResponse:
        """See the contract."""
        limit = page_size(request.page_size)
        accounts = await self._store.page(request.page_token, limit)
        return pb.ListAccountsResponse(
            accounts=[account_message(account) for account in accounts],
            next_page_token=accounts[-1].aor if len(accounts) == limit else "",
        )
