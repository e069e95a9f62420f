"""The routes of named tokens: made, listed, rotated, removed. What a token is, is shown once."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Response
from pydantic import Field
from ulid import ULID

from pbx_events.api.auth import ApiScope
from pbx_events.api.document import answers
from pbx_events.api.models import NewToken, TokenPage
from pbx_events.api.problem import wrong
from pbx_events.api.strict import Body, StrictRoute
from pbx_events.api.values import Id, Moment, Page, unix_ms
from pbx_events.cdr.builder import iso
from pbx_events.storage.tokens import Token, Tokens, digest_of, new_token

ROTATION_S_DEFAULT: Final = 24 * 3600
ROTATION_S_MAX: Final = 7 * 24 * 3600


class TokenRequest(Body):
    """A token to make."""

    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$", examples=["billing"])
    scopes: list[ApiScope] = Field(min_length=1, max_length=8, examples=[["read"]])
    expires_at: Moment = Field(default=None, description="null: never")


class Rotation(Body):
    """How to rotate."""

    old_valid_s: int = Field(
        default=ROTATION_S_DEFAULT, ge=0, le=ROTATION_S_MAX, description="How long the token before is taken too"
    )
    expires_at: Moment = Field(default=None, description="When the new one ends; null: never")


def token_routes(store: Tokens, changed: Callable[[], None]) -> APIRouter:
    """All of them."""
    router = APIRouter(prefix="/v1/tokens", tags=["tokens"], route_class=StrictRoute)

    @router.get("", response_model=None, responses=answers(TokenPage))
    async def list_tokens() -> Page:
        """All named tokens, without what they are."""
        return Page(items=[_shown(token) for token in await store.list_tokens()], next=None)

    @router.post("", status_code=201, response_model=None, responses=answers(NewToken, 201))
    async def create_token(new: TokenRequest) -> dict[str, Any]:
        """Makes a token. It is shown this once."""
        token_id = str(ULID())
        secret = new_token(token_id)
        token = Token(
            token_id,
            new.name,
            tuple(dict.fromkeys(new.scopes)),
            digest_of(secret),
            int(time.time() * 1000),
            _end(new.expires_at),
        )
        await store.add_token(token)
        changed()
        return _shown(token) | {"token": secret}

    @router.post("/{token_id}/rotate", response_model=None, responses=answers(NewToken))
    async def rotate_token(token_id: Id, how: Annotated[Rotation | None, Field()] = None) -> dict[str, Any]:
        """Makes another secret for a token, shown this once. For a time the one before is taken too."""
        asked = how or Rotation()
        secret, until_ms = new_token(token_id), int(time.time() * 1000) + asked.old_valid_s * 1000
        await store.rotate_token(token_id, digest_of(secret), until_ms, _end(asked.expires_at))
        changed()
        return _shown(await store.token(token_id)) | {"token": secret}

    @router.delete("/{token_id}", status_code=204)
    async def delete_token(token_id: Id) -> Response:
        """Ends a token: at once here, within seconds at other replicas."""
        await store.remove_token(token_id)
        changed()
        return Response(status_code=204)

    return router


def _end(at: datetime | None) -> int:
    end_ms = unix_ms(at) or 0
    if at is not None and end_ms <= time.time() * 1000:
        raise wrong("invalid_field", ("body", "expires_at"), "is over already")
    return end_ms


def _shown(token: Token) -> dict[str, Any]:
    return {
        "id": token.id,
        "name": token.name,
        "scopes": list(token.scopes),
        "created_at": iso(token.created_at_ms),
        "expires_at": iso(token.expires_at_ms) if token.expires_at_ms else None,
        "old_valid_until": iso(token.old_until_ms) if token.old_until_ms > time.time() * 1000 else None,
    }
