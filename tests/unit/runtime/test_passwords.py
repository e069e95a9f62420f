"""Passwords of any characters get from a setting of their own into URLs, and out of them again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbx_runtime.address import Listen
from pbx_runtime.redis_url import parse_redis_url, with_password
from pbx_runtime.settings import ServiceSettings

URLS = (
    "redis://redis.pbx:6379/0",
    "redis://:old@h/1",
    "rediss://user:old@h:6380/0",
    "unix:///run/redis.sock?db=1",
    "redis+sentinel://u:old@a:26379,b:26379/name/0?sentinel_password=s",
    "redis://[2001:db8::1]:6379/0",
)


@given(url=st.sampled_from(URLS), password=st.text(min_size=1).filter(lambda text: text.isprintable() or "\n" in text))
def test_what_is_put_in_is_read_out_and_nothing_else_changes(url: str, password: str) -> None:
    try:
        password.encode()
    except UnicodeEncodeError:
        return  # lone surrogates are in no environment
    before, after = parse_redis_url(url), parse_redis_url(with_password(url, password))
    assert after.password == password
    assert (after.host, after.port, after.db, after.user, after.path) == (
        before.host, before.port, before.db, before.user, before.path,
    )  # fmt: skip
    assert (after.sentinels, after.name, after.sentinel_password) == (
        before.sentinels, before.name, before.sentinel_password,
    )  # fmt: skip


def test_the_setting_comes_before_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PBX_REDIS_URL", "redis://:old@pbx-redis:6379/0")
    monkeypatch.setenv("PBX_REDIS_PASSWORD", "p@ss/w:rd#100%25 \u00e9")
    monkeypatch.setenv("DATABASE_URL", "postgresql+asyncpg://pbx@db/events")
    monkeypatch.setenv("DATABASE_PASSWORD", "a b@c")
    settings = ServiceSettings.load()
    assert parse_redis_url(settings.redis_url).password == "p@ss/w:rd#100%25 \u00e9"
    assert settings.database_url == "postgresql+asyncpg://pbx:a%20b%40c@db/events"
    assert "p@ss" not in repr(settings)


def test_without_one_the_url_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PBX_REDIS_URL", "redis://:old@h:1/0")
    assert ServiceSettings.load().redis_url == "redis://:old@h:1/0"


@pytest.mark.parametrize(
    ("text", "host"),
    [("[10.0.0.7]:9102", "10.0.0.7"), ("[2001:db8::7]:9102", "2001:db8::7"), ("10.0.0.7:9102", "10.0.0.7")],
)
def test_brackets_are_for_either_family(text: str, host: str) -> None:
    """`[$(PBX_POD_IP)]:9102` is written before anybody knows the family."""
    assert Listen.parse(text) == Listen(host, 9102)
    assert Listen.parse(str(Listen.parse(text))) == Listen(host, 9102)


@pytest.mark.parametrize("text", ["[name]:1", "[]:1", "2001:db8::7:9102", "[10.0.0.7:9102"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Listen.parse(text)
