"""Where a Redis server is: `redis://[user:password@]host:port/db`, `rediss://` (TLS), `unix:///path?db=n`."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

DEFAULT_PORT = 6379


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """A parsed URL; its repr never shows the password."""

    host: str
    port: int
    path: str = ""
    """Unix socket path; host and port do not matter then."""
    db: int = 0
    tls: bool = False
    user: str = ""
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"unix://{self.path}" if self.path else f"{self.host}:{self.port}/{self.db}"


def parse_redis_url(url: str) -> RedisUrl:
    """Read a URL. Raises ValueError (without the URL: it may hold a password)."""
    parts = urlsplit(url)
    try:
        db = (parse_qs(parts.query).get("db") or [parts.path.strip("/") if parts.scheme != "unix" else ""])[0]
        number = int(db) if db else 0
        port = parts.port or DEFAULT_PORT
    except ValueError:
        raise ValueError("the Redis URL has a port or a database that is no number") from None
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if parts.scheme == "unix" and parts.path:
        return RedisUrl("", 0, path=unquote(parts.path), db=number, user=user, password=password)
    if parts.scheme not in ("redis", "rediss") or not parts.hostname:
        raise ValueError("the Redis URL must be redis://host:port/db, rediss://host:port/db or unix:///path")
    return RedisUrl(parts.hostname, port, db=number, tls=parts.scheme == "rediss", user=user, password=password)
