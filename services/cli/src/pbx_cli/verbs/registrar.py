"""The registrar's AccountService as the command line uses it: rows in and out, no generated type beyond this file."""

from __future__ import annotations

from typing import Any

from grpc.aio import Channel

from pbx.registrar.v1 import registrar_pb2, registrar_pb2_grpc
from pbx_cli.verbs import grpc
from pbx_runtime.grpc_channel import UNARY_DEADLINE_S

_PAGE = 1000


class Registrar:
    """One registrar, by its gRPC address. Every method raises CliError where it cannot be asked."""

    def __init__(self, address: str) -> None:
        self._address = address

    def create(
        self, user: str, domain: str, name: str, password: str, *, calls_max: int | None = None
    ) -> dict[str, Any]:
        """Create an account; the row. Raises AlreadyThere."""
        mode = registrar_pb2.PUT_MODE_CREATE
        return self._put(
            registrar_pb2.PutAccountRequest(
                user=user, domain=domain, display_name=name, password=password, calls_max=calls_max, mode=mode
            )
        )

    def set_password(self, user: str, domain: str, password: str) -> dict[str, Any]:
        """Change the password of an account and nothing else; the row. Raises NoSuchThing."""
        mode = registrar_pb2.PUT_MODE_REPLACE
        return self._put(registrar_pb2.PutAccountRequest(user=user, domain=domain, password=password, mode=mode))

    def _put(self, request: registrar_pb2.PutAccountRequest) -> dict[str, Any]:
        async def ask(channel: Channel) -> registrar_pb2.PutAccountResponse:
            stub = registrar_pb2_grpc.AccountServiceStub(channel)
            answer: registrar_pb2.PutAccountResponse = await stub.PutAccount(request, timeout=UNARY_DEADLINE_S)
            return answer

        return _row(grpc.call(self._address, "registrar", ask).account)

    def change(self, user: str, domain: str, *, name: str | None, calls_max: int | None) -> dict[str, Any]:
        """Change what is not None of an account; the row."""
        request = registrar_pb2.UpdateAccountRequest(user=user, domain=domain, display_name=name, calls_max=calls_max)

        async def ask(channel: Channel) -> registrar_pb2.UpdateAccountResponse:
            stub = registrar_pb2_grpc.AccountServiceStub(channel)
            answer: registrar_pb2.UpdateAccountResponse = await stub.UpdateAccount(request, timeout=UNARY_DEADLINE_S)
            return answer

        return _row(grpc.call(self._address, "registrar", ask).account)

    def delete(self, user: str, domain: str) -> bool:
        """Remove an account and its bindings; whether it was there."""
        request = registrar_pb2.DeleteAccountRequest(user=user, domain=domain)

        async def ask(channel: Channel) -> registrar_pb2.DeleteAccountResponse:
            stub = registrar_pb2_grpc.AccountServiceStub(channel)
            answer: registrar_pb2.DeleteAccountResponse = await stub.DeleteAccount(request, timeout=UNARY_DEADLINE_S)
            return answer

        return bool(grpc.call(self._address, "registrar", ask).deleted)

    def all(self) -> list[dict[str, Any]]:
        """All accounts."""

        async def ask(channel: Channel) -> list[registrar_pb2.Account]:
            stub = registrar_pb2_grpc.AccountServiceStub(channel)
            found: list[registrar_pb2.Account] = []
            request = registrar_pb2.ListAccountsRequest(page_size=_PAGE)
            while True:
                page = await stub.ListAccounts(request, timeout=UNARY_DEADLINE_S)
                found += page.accounts
                if not page.next_page_token:
                    return found
                request = registrar_pb2.ListAccountsRequest(page_size=_PAGE, page_token=page.next_page_token)

        return list(map(_row, grpc.call(self._address, "registrar", ask)))


def _row(account: registrar_pb2.Account) -> dict[str, Any]:
    return {
        "user": account.user,
        "domain": account.domain,
        "display_name": account.display_name,
        "created_at_ms": account.created_at_ms,
        "calls_max": account.calls_max,
    }
