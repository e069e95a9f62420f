"""`sip-pbx token add|list|rotate|remove`: named tokens of the API."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer

from pbx_cli.verbs.api import Api
from pbx_cli.verbs.places import DEFAULT_DATA, DataOption, HttpOption, JsonOption, Places
from pbx_cli.verbs.table import Column, show, show_one, when

app = typer.Typer(help="Tokens: what other programs may do.", no_args_is_help=True, rich_markup_mode=None)

_COLUMNS = (
    Column("TOKEN", "id"),
    Column("NAME", "name"),
    Column("SCOPES", "scopes"),
    Column("CREATED", "created_at", when),
    Column("EXPIRES", "expires_at", when),
)
TokenArgument = Annotated[str, typer.Argument(metavar="TOKEN", help="Id, as `sip-pbx token list` shows it.")]
ExpiresOption = Annotated[str | None, typer.Option(help="When it ends, RFC 3339; default: never.")]


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Who will use it, for example billing.")],
    scopes: Annotated[
        list[str], typer.Option("--scope", help="read, calls, accounts, webhooks or admin; may be repeated.")
    ],
    expires: ExpiresOption = None,
    http: HttpOption = "",
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """Make a token. It is shown once."""
    with Api(Places(http, data).api) as api:
        show_one(api.post("/v1/tokens", {"name": name, "scopes": scopes, "expires_at": expires}), as_json=json)


@app.command("list")
def list_(http: HttpOption = "", data: DataOption = DEFAULT_DATA, json: JsonOption = False) -> None:
    """All named tokens, without what they are."""
    with Api(Places(http, data).api) as api:
        show(api.get("/v1/tokens")["items"], _COLUMNS, as_json=json, empty="no tokens")


@app.command()
def rotate(
    token: TokenArgument,
    old_valid_s: Annotated[int, typer.Option(min=0, max=604_800, help="How long the old one is taken too.")] = 86_400,
    expires: ExpiresOption = None,
    http: HttpOption = "",
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """Make a token anew, shown once; for a day both are taken."""
    body = {"old_valid_s": old_valid_s, "expires_at": expires}
    with Api(Places(http, data).api) as api:
        show_one(api.post(f"/v1/tokens/{quote(token, safe='')}/rotate", body), as_json=json)


@app.command()
def remove(token: TokenArgument, http: HttpOption = "", data: DataOption = DEFAULT_DATA) -> None:
    """End a token."""
    with Api(Places(http, data).api) as api:
        api.delete(f"/v1/tokens/{quote(token, safe='')}")
    typer.echo(f"removed {token}")
