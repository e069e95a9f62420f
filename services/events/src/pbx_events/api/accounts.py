"""The routes of accounts, with the verbs of `sip-pbx account`. A password goes in and never comes out."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Response
from pydantic import Field

from pbx_events.api.document import answers
from pbx_events.api.models import Account, AccountPage
from pbx_events.api.strict import Body, StrictRoute, left_out
from pbx_events.api.values import NO_NUL, Limit, Page, Token
from pbx_events.clients import Accounts
from pbx_runtime.errors import InvalidArgument

USER_MAX: Final = 128
CALLS_MAX: Final = 1_000_000
User = Annotated[str, Path(min_length=1, max_length=USER_MAX, pattern=NO_NUL)]
DomainQuery = Annotated[
    str | None, Query(min_length=1, max_length=253, pattern=NO_NUL, description="Default: the registrar's own")
]
Domain = Annotated[str | None, Field(min_length=1, max_length=253, description="null: the registrar's own")]
Password = Annotated[str, Field(min_length=1, max_length=256, pattern=NO_NUL, json_schema_extra={"format": "password"})]
Name = Annotated[str | None, Field(max_length=128, description="Display name; null: none")]
CallsMax = Annotated[
    int | None, Field(ge=1, le=CALLS_MAX, description="Calls that it may make at once; null: PBX_ACCOUNT_CALLS")
]


class NewAccount(Body):
    """An account to make."""

    user: str = Field(min_length=1, max_length=USER_MAX, pattern=NO_NUL, examples=["1004"])
    password: Password
    domain: Domain = None
    display_name: Name = None
    calls_max: CallsMax = None


class ChangedAccount(Body):
    """What to change of an account: what is not named stays."""

    display_name: Name = left_out()
    calls_max: CallsMax = left_out()


class NewPassword(Body):
    """Another password."""

    password: Password


def account_routes(accounts: Accounts) -> APIRouter:
    """All of them."""
    router = APIRouter(prefix="/v1/accounts", tags=["accounts"], route_class=StrictRoute)

    @router.get("", response_model=None, responses=answers(AccountPage))
    async def list_accounts(limit: Limit = 50, cursor: Token = None) -> Page:
        """Who may register and call, in order of user."""
        items, next_cursor = await accounts.page(limit, cursor or "")
        return Page(items=items, next=next_cursor or None)

    @router.post("", status_code=201, response_model=None, responses=answers(Account, 201))
    async def create_account(new: NewAccount) -> dict[str, Any]:
        """Makes an account. One that is there already is left as it is: 409."""
        return await accounts.create(
            new.user, new.domain or "", new.password, new.display_name or "", new.calls_max or 0
        )

    @router.get("/{user}", response_model=None, responses=answers(Account))
    async def get_account(user: User, domain: DomainQuery = None) -> dict[str, Any]:
        """One account."""
        return await accounts.one(user, domain or "")

    @router.patch("/{user}", response_model=None, responses=answers(Account))
    async def update_account(user: User, changed: ChangedAccount, domain: DomainQuery = None) -> dict[str, Any]:
        """Changes what is named; calls that there are go on."""
        named = changed.model_fields_set
        if not named:
            raise InvalidArgument("name what to change: display_name or calls_max")
        name = (changed.display_name or "") if "display_name" in named else None
        calls_max = (changed.calls_max or 0) if "calls_max" in named else None
        return await accounts.change(user, domain or "", name, calls_max)

    @router.post("/{user}/set-password", response_model=None, responses=answers(Account))
    async def set_account_password(user: User, new: NewPassword, domain: DomainQuery = None) -> dict[str, Any]:
        """Changes the password alone; it counts from the next request of a phone on."""
        return await accounts.set_password(user, domain or "", new.password)

    @router.delete("/{user}", status_code=204)
    async def delete_account(user: User, domain: DomainQuery = None) -> Response:
        """Removes an account and its registrations; calls that there are go on."""
        await accounts.delete(user, domain or "")
        return Response(status_code=204)

    return router
