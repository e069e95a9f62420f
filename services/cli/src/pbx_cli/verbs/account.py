"""`sip-pbx account add|list|remove|passwd`: the registrar's AccountService. Passwords never stand in argv."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from grpc.aio import Channel

from pbx.registrar.v1 import registrar_pb2, registrar_pb2_grpc
from pbx_cli.errors import EXIT_USAGE, CliError
from pbx_cli.up.datadir import new_password, remember_password
from pbx_cli.up.options import parse_account, parse_domain
from pbx_cli.verbs import grpc
from pbx_cli.verbs.places import DEFAULT_DATA, DataOption, JsonOption, Places
from pbx_cli.verbs.table import Column, show, show_one, when
from pbx_runtime.grpc_channel import UNARY_DEADLINE_S

app = typer.Typer(help="Accounts: who may register and call.", no_args_is_help=True, rich_markup_mode=None)

_PAGE = 1000
_COLUMNS = (
    Column("USER", "user"),
    Column("DOMAIN", "domain"),
    Column("NAME", "display_name"),
    Column("CREATED", "created_at_ms", when),
)
UserArgument = Annotated[str, typer.Argument(help="User part of the address.")]
DomainOption = Annotated[str, typer.Option(help="Domain; default: the registrar's own.")]
StdinOption = Annotated[bool, typer.Option("--password-stdin", help="Read the password from stdin.")]


@app.command()
def add(
    user: UserArgument,
    name: Annotated[str, typer.Option(help="Display name.")] = "",
    domain: DomainOption = "",
    password_stdin: StdinOption = False,
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """Create an account. Without --password-stdin a password is made and shown once."""
    _check(user, domain)
    password = _read_password() if password_stdin else new_password()
    answer = _put(Places("", data), user, domain, name, password)
    remember_password(data, user, password)
    row = _row(answer.account) | {"created": answer.created}
    show_one(row if password_stdin else row | {"password": password}, as_json=json)


@app.command()
def passwd(
    user: UserArgument,
    domain: DomainOption = "",
    password_stdin: StdinOption = False,
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """Change the password of an account. Without --password-stdin one is made and shown once."""
    _check(user, domain)
    places = Places("", data)
    existing = [a for a in _all(places) if a.user == user and domain in ("", a.domain)]
    if not existing:
        raise CliError(f"no account {user}: create it with `sip-pbx account add {user}`")
    password = _read_password() if password_stdin else new_password()
    answer = _put(places, user, existing[0].domain, existing[0].display_name, password)
    remember_password(data, user, password)
    row = _row(answer.account)
    show_one(row if password_stdin else row | {"password": password}, as_json=json)


@app.command("list")
def list_(data: DataOption = DEFAULT_DATA, json: JsonOption = False) -> None:
    """All accounts."""
    show(map(_row, _all(Places("", data))), _COLUMNS, as_json=json, empty="no accounts")


@app.command()
def remove(user: UserArgument, domain: DomainOption = "", data: DataOption = DEFAULT_DATA) -> None:
    """Remove an account and its registrations."""
    _check(user, domain)
    request = registrar_pb2.DeleteAccountRequest(user=user, domain=domain)

    async def ask(channel: Channel) -> registrar_pb2.DeleteAccountResponse:
        stub = registrar_pb2_grpc.AccountServiceStub(channel)
        answer: registrar_pb2.DeleteAccountResponse = await stub.DeleteAccount(request, timeout=UNARY_DEADLINE_S)
        return answer

    answer = grpc.call(Places("", data).registrar, "registrar", ask)
    if not answer.deleted:
        raise CliError(f"no account {user}: `sip-pbx account list` shows them")
    remember_password(data, user, None)
    typer.echo(f"removed {user}")


def _check(user: str, domain: str) -> None:
    if parse_account(user).user != user:
        raise CliError("the user must not hold a colon; a password is read with --password-stdin", EXIT_USAGE)
    if domain:
        parse_domain(domain)


def _read_password() -> str:
    password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise CliError("--password-stdin: no password on stdin", EXIT_USAGE)
    return password


def _put(places: Places, user: str, domain: str, name: str, password: str) -> registrar_pb2.PutAccountResponse:
    request = registrar_pb2.PutAccountRequest(user=user, domain=domain, display_name=name, password=password)

    async def ask(channel: Channel) -> registrar_pb2.PutAccountResponse:
        stub = registrar_pb2_grpc.AccountServiceStub(channel)
        answer: registrar_pb2.PutAccountResponse = await stub.PutAccount(request, timeout=UNARY_DEADLINE_S)
        return answer

    return grpc.call(places.registrar, "registrar", ask)


def _all(places: Places) -> list[registrar_pb2.Account]:
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

    return grpc.call(places.registrar, "registrar", ask)


def _row(account: registrar_pb2.Account) -> dict[str, Any]:
    return {
        "user": account.user,
        "domain": account.domain,
        "display_name": account.display_name,
        "created_at_ms": account.created_at_ms,
    }
