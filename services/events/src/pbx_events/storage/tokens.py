"""Named tokens in SQL: of a token its digest alone is kept, so that who reads the database can use none."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from pbx_events.storage.database import Database
from pbx_events.storage.tables import tokens
from pbx_runtime.errors import AlreadyExists, FailedPrecondition, NotFound

TOKENS_MAX: Final = 1000
"""Tokens of a PBX: more are made by a program that keeps none."""
MARK: Final = "pbx_"
"""What a token begins with: so that scanners for secrets know one where it should not be."""
SECRET_OCTETS: Final = 32


@dataclass(frozen=True, slots=True)
class Token:
    """One token, without its secret."""

    id: str
    name: str
    scopes: tuple[str, ...]
    digest: str
    created_at_ms: int
    expires_at_ms: int = 0
    """0: never."""
    old_digest: str = ""
    old_until_ms: int = 0
    """Until when the one before the last rotation is taken too."""

    def is_of(self, presented: str, now_ms: int) -> bool:
        """Whether what was presented is this token; it may have expired."""
        given = digest_of(presented)
        if hmac.compare_digest(given, self.digest):
            return True
        return now_ms < self.old_until_ms and hmac.compare_digest(given, self.old_digest)

    def __repr__(self) -> str:
        return f"<Token {self.id} {self.name} {','.join(self.scopes)}>"


def new_token(token_id: str) -> str:
    """A token of that id, shown once."""
    return f"{MARK}{token_id}_{secrets.token_urlsafe(SECRET_OCTETS)}"


def id_of(presented: str) -> str:
    """The id inside of a token; empty where it is none of ours."""
    return presented.removeprefix(MARK).partition("_")[0] if presented.startswith(MARK) else ""


def digest_of(presented: str) -> str:
    """What is kept of a token. It has 256 random bits: nothing is gained by a slow digest."""
    return hashlib.sha256(presented.encode()).hexdigest()


class Tokens(Database):
    """Named tokens."""

    async def list_tokens(self) -> list[Token]:
        """All, by name."""
        return [_token(row) for row in await self.rows(sa.select(tokens).order_by(tokens.c.name))]

    async def token(self, token_id: str) -> Token:
        """One of them. Raises NotFound."""
        rows = await self.rows(sa.select(tokens).where(tokens.c.id == token_id))
        if not rows:
            raise NotFound(f"no token {token_id}")
        return _token(rows[0])

    async def add_token(self, token: Token) -> None:
        """Makes one. Raises AlreadyExists for a name that is taken, FailedPrecondition at the limit."""
        row = {
            "id": token.id,
            "name": token.name,
            "scopes": json.dumps(token.scopes),
            "digest": token.digest,
            "created_at_ms": token.created_at_ms,
            "expires_at_ms": token.expires_at_ms,
        }

        def work(connection: sa.Connection) -> None:
            if connection.execute(sa.select(tokens.c.id).where(tokens.c.name == token.name)).first() is not None:
                raise AlreadyExists(f"there is a token {token.name!r} already: rotate it, or take another name")
            if connection.execute(sa.select(sa.func.count()).select_from(tokens)).scalar_one() >= TOKENS_MAX:
                raise FailedPrecondition(f"there are {TOKENS_MAX} tokens already; remove one that is not needed")
            connection.execute(tokens.insert().values(row))

        await self.write(work)

    async def remove_token(self, token_id: str) -> None:
        """Ends one. Raises NotFound."""
        gone = tokens.delete().where(tokens.c.id == token_id)
        if not await self.write(lambda connection: connection.execute(gone).rowcount):
            raise NotFound(f"no token {token_id}")

    async def rotate_token(self, token_id: str, digest: str, old_until_ms: int, expires_at_ms: int) -> None:
        """A new secret; the one before is taken until then. Raises NotFound."""
        change = {
            "old_digest": tokens.c.digest,
            "digest": digest,
            "old_until_ms": old_until_ms,
            "expires_at_ms": expires_at_ms,
        }
        query = tokens.update().where(tokens.c.id == token_id).values(**change)
        if not await self.write(lambda connection: connection.execute(query).rowcount):
            raise NotFound(f"no token {token_id}")


def _token(row: Any) -> Token:
    return Token(
        id=row.id,
        name=row.name,
        scopes=tuple(json.loads(row.scopes)),
        digest=row.digest,
        created_at_ms=row.created_at_ms,
        expires_at_ms=row.expires_at_ms,
        old_digest=row.old_digest,
        old_until_ms=row.old_until_ms,
    )
