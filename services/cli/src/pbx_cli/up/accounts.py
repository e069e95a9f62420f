"""Creates the accounts of `up` through the registrar's AccountService."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pbx.registrar.v1 import registrar_pb2, registrar_pb2_grpc
from pbx_cli.errors import CliError
from pbx_cli.up.options import AccountWish
from pbx_runtime.errors import ServiceError
from pbx_runtime.grpc_channel import UNARY_DEADLINE_S, map_rpc_errors, open_channel

OTHERS_MAX: Final = 1000
"""Accounts from before that are looked for; more are not told by name anyway."""


async def put_accounts(registrar: str, accounts: Sequence[AccountWish], domain: str) -> tuple[str, ...]:
    """Create each account or change its password, and leave its name. Returns the users that are there besides.

    Raises CliError that names the account, never its password.
    """
    async with open_channel(registrar) as channel:
        stub = registrar_pb2_grpc.AccountServiceStub(channel)
        for account in accounts:
            request = registrar_pb2.PutAccountRequest(user=account.user, domain=domain, password=account.password)
            try:
                with map_rpc_errors():
                    await stub.PutAccount(request, timeout=UNARY_DEADLINE_S)
            except ServiceError as error:
                raise CliError(f"cannot create account {account.user}: {error.detail}") from None
        with map_rpc_errors():
            found = await stub.ListAccounts(
                registrar_pb2.ListAccountsRequest(page_size=OTHERS_MAX), timeout=UNARY_DEADLINE_S
            )
    asked = {account.user for account in accounts}
    return tuple(each.user for each in found.accounts if each.user not in asked)
