"""`sip-pbx account add|set|set-password|list|remove`: the registrar's AccountService. Passwords never stand in argv."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from pbx_cli.errors import EXIT_USAGE, AlreadyThere, CliError, NoSuchThing
from pbx_cli.up.datadir import new_password, remember_password
from pbx_cli.up.options import parse_account, parse_domain
from pbx_cli.verbs.places import DEFAULT_DATA, DataOption, JsonOption, Places
from pbx_cli.verbs.table import Column, show, show_one, when

if TYPE_CHECKING:
    from pbx_cli.verbs.registrar import Registrar

app = typer.Typer(help="Accounts: who may register and call.", no_args_is_help=True, rich_markup_mode=None)


def _limit(calls_max: object) -> str:
    """A limit of calls as people read it."""
    return str(calls_max) if calls_max else "default"


_COLUMNS = (
    Column("USER", "user"),
    Column("DOMAIN", "domain"),
    Column("NAME", "display_name"),
    Column("CALLS", "calls_max", _limit),
    Column("CREATED", "created_at_ms", when),
)
UserArgument = Annotated[str, typer.Argument(help="User part of the address.")]
DomainOption = Annotated[str, typer.Option(help="Domain; default: the registrar's own.")]
CallsOption = Annotated[
    int | None, typer.Option(min=0, max=1_000_000, help="Calls that it may make at once; 0: PBX_ACCOUNT_CALLS, 10.")
]
StdinOption = Annotated[bool, typer.Option("--password-stdin", help="Read the password from stdin, a line.")]
FileOption = Annotated[Path | None, typer.Option("--password-file", help="Read the password from a file, a line.")]
AskOption = Annotated[bool, typer.Option("--ask", help="Ask for the password; what is typed is not shown.")]
PASSWORD_CHARACTERS_MAX = 1024
"""A password is a line: a file that names a device must not fill the memory."""


@app.command()
def add(
    user: UserArgument,
    name: Annotated[str, typer.Option(help="Display name.")] = "",
    domain: DomainOption = "",
    calls: CallsOption = None,
    password_stdin: StdinOption = False,
    password_file: FileOption = None,
    ask: AskOption = False,
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """Create an account. Where no password is given one is made, and shown once."""
    _check(user, domain)
    given = _given_password(password_stdin, password_file, ask)
    password = given or new_password()
    try:
        row = _registrar(data).create(user, domain, name, password, calls_max=calls)
    except AlreadyThere as error:
        mend = f"`sip-pbx account set-password {user}` changes its password, `account set` its name and limit"
        raise AlreadyThere(f"{error}: {mend}") from None
    remember_password(data, user, password)
    show_one(row if given else row | {"password": password}, as_json=json)


@app.command("set")
def set_(
    user: UserArgument,
    calls: CallsOption = None,
    name: Annotated[str | None, typer.Option(help="Display name.")] = None,
    domain: DomainOption = "",
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """Change an account's limit of calls or its display name; calls that there are go on."""
    _check(user, domain)
    if calls is None and name is None:
        raise CliError("nothing to set: --calls or --name", EXIT_USAGE)
    show_one(_registrar(data).change(user, domain, name=name, calls_max=calls), as_json=json)


@app.command("passwd", hidden=True)
@app.command("set-password")
def set_password(
    user: UserArgument,
    domain: DomainOption = "",
    password_stdin: StdinOption = False,
    password_file: FileOption = None,
    ask: AskOption = False,
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """Change the password of an account. Where none is given one is made, and shown once."""
    _check(user, domain)
    given = _given_password(password_stdin, password_file, ask)
    password = given or new_password()
    try:
        row = _registrar(data).set_password(user, domain, password)
    except NoSuchThing as error:
        raise NoSuchThing(f"{error}: create it with `sip-pbx account add {user}`") from None
    remember_password(data, user, password)
    show_one(row if given else row | {"password": password}, as_json=json)


@app.command("list")
def list_(data: DataOption = DEFAULT_DATA, json: JsonOption = False) -> None:
    """All accounts."""
    show(_registrar(data).all(), _COLUMNS, as_json=json, empty="no accounts")


@app.command()
def remove(user: UserArgument, domain: DomainOption = "", data: DataOption = DEFAULT_DATA) -> None:
    """Remove an account and its registrations."""
    _check(user, domain)
    if not _registrar(data).delete(user, domain):
        raise CliError(f"no account {user}: `sip-pbx account list` shows them")
    remember_password(data, user, None)
    typer.echo(f"removed {user}")


def _check(user: str, domain: str) -> None:
    if parse_account(user).user != user:
        raise CliError(
            "the user must not hold a colon; a password is read with --password-stdin, --password-file or --ask",
            EXIT_USAGE,
        )
    if domain:
        parse_domain(domain)


def _given_password(from_stdin: bool, file: Path | None, ask: bool) -> str:
    """The password that the caller brings; empty: one is to be made. Raises CliError."""
    if from_stdin + (file is not None) + ask > 1:
        raise CliError("one of --password-stdin, --password-file and --ask", EXIT_USAGE)
    if ask:
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    if from_stdin:
        return _first_line("--password-stdin", sys.stdin)
    if file is None:
        return ""
    try:
        with file.open(encoding="utf-8") as opened:
            return _first_line("--password-file", opened)
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"--password-file: cannot read {file}: {error}", EXIT_USAGE) from None


def _first_line(option: str, source: TextIO) -> str:
    password = source.readline(PASSWORD_CHARACTERS_MAX + 1).rstrip("\r\n")
    if not password:
        raise CliError(f"{option}: no password there", EXIT_USAGE)
    if len(password) > PASSWORD_CHARACTERS_MAX:
        raise CliError(f"{option}: longer than {PASSWORD_CHARACTERS_MAX} characters", EXIT_USAGE)
    return password


def _registrar(data: Path) -> Registrar:
    # gRPC takes a third of a second to import: only who needs it waits for it.
    from pbx_cli.verbs.registrar import Registrar

    return Registrar(Places("", data).registrar)
