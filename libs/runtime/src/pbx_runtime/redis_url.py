"""Where a Redis server is.

    redis://[user:password@]host:port/db       rediss:// for TLS
    unix:///path?db=n
    redis+sentinel://[user:password@]host:port,host:port/name/db[?sentinel_password=secret]

The last names Sentinels and what they watch; user and password are those of the server itself. A Redis Cluster is
deliberately not among them: the events of a call and its state are written in one transaction, whose keys would have
to lie in one slot, and with them every call of the installation (docs/adr/0010).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlsplit

DEFAULT_PORT = 6379
DEFAULT_SENTINEL_PORT = 26379
SCHEMES = ("redis", "rediss", "unix", "redis+sentinel")
_EXPECTED = (
    "the Redis URL must be redis://host:port/db, rediss://host:port/db, unix:///path"
    " or redis+sentinel://host:port,host:port/name/db"
)


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """A parsed URL; its repr never shows a password."""

    host: str
    port: int
    path: str = ""
    """Unix socket path; host and port do not matter then."""
    db: int = 0
    tls: bool = False
    user: str = ""
    password: str = field(default="", repr=False)
    sentinels: tuple[tuple[str, int], ...] = ()
    """Hosts and ports of the Sentinels that know where the server is; host and port do not matter then."""
    name: str = ""
    """What the Sentinels call it."""
    sentinel_password: str = field(default="", repr=False)

    def __str__(self) -> str:
        if self.sentinels:
            return f"sentinel:{self.name}/{self.db}"
        return f"unix://{self.path}" if self.path else f"{self.host}:{self.port}/{self.db}"


def parse_redis_url(url: str) -> RedisUrl:
    """Read a URL. Raises ValueError (without the URL: it may hold a password)."""
    parts = urlsplit(url)
    try:
        return _sentinel(parts) if parts.scheme == "redis+sentinel" else _plain(parts)
    except _NoNumber:
        raise ValueError("the Redis URL has a port or a database that is no number") from None


def with_password(url: str, password: str) -> str:
    """A URL of whatever scheme with this password in place of its own; the password may hold any character."""
    scheme, separator, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    login, _, hosts = authority.rpartition("@")
    user = login.partition(":")[0]
    return f"{scheme}{separator}{user}:{quote(password, safe='')}@{hosts}{slash}{path}"


class _NoNumber(Exception):  # never leaves this module
    pass


def _number(text: str, default: int) -> int:
    if not text:
        return default
    if not (text.isascii() and text.isdigit()):
        raise _NoNumber
    return int(text)


def _plain(parts: SplitResult) -> RedisUrl:
    db = (parse_qs(parts.query).get("db") or [parts.path.strip("/") if parts.scheme != "unix" else ""])[0]
    number = _number(db, 0)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if parts.scheme == "unix" and parts.path:
        return RedisUrl("", 0, path=unquote(parts.path), db=number, user=user, password=password)
    try:
        port = parts.port or DEFAULT_PORT
    except ValueError:
        raise _NoNumber from None
    if parts.scheme not in ("redis", "rediss") or not parts.hostname:
        raise ValueError(_EXPECTED)
    return RedisUrl(parts.hostname, port, db=number, tls=parts.scheme == "rediss", user=user, password=password)


def _sentinel(parts: SplitResult) -> RedisUrl:
    login, at, hosts = parts.netloc.rpartition("@")
    user, _, password = login.partition(":") if at else ("", "", "")
    name, _, db = parts.path.strip("/").partition("/")
    sentinels = tuple(_host_port(text) for text in hosts.split(",") if text)
    if not sentinels or not name:
        raise ValueError(_EXPECTED)
    return RedisUrl(
        "",
        0,
        db=_number(db, 0),
        user=unquote(user),
        password=unquote(password),
        sentinels=sentinels,
        name=unquote(name),
        sentinel_password=(parse_qs(parts.query).get("sentinel_password") or [""])[0],
    )


def _host_port(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, ""
    return host.strip("[]"), _number(port, DEFAULT_SENTINEL_PORT)
