"""Creates the accounts of `up` through the registrar's AccountService."""

from __future__ import annotations

from collections.abc import Sequence

from pbx.registrar.v1 import registrar_pb2, registrar_pb2_grpc
from pbx_cli.errors import CliError
from pbx_cli.up.options import AccountWish
from pbx_runtime.errors import ServiceError
from pbx_runtime.grpc_channel import UNARY_DEADLINE_S, map_rpc_errors, open_channel


async def put_accounts(registrar: str, accounts: Sequence[AccountWish], domain: str) -> None:
    """Create or update each account. Raises CliError that names the account, never its password."""
    async with open_channel(registrar) as channel:
        stub = registrar_pb2_grpc.AccountServiceStub(channel)
        for account in accounts:
            request = registrar_pb2.PutAccountRequest(user=account.user, domain=domain, password=account.password)
            try:
                with map_rpc_errors():
                    await stub.PutAccount(request, timeout=UNARY_DEADLINE_S)
            except ServiceError as error:
                raise CliError(f"cannot create account {account.user}: {error.detail}") from None
