"""Accounts in SQL: one suite over SQLite and, where it is installed, a real PostgreSQL."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from pbx_registrar.credentials import Put
from pbx_registrar.storage.accounts import SqlAccounts
from pbx_runtime.errors import AlreadyExists, NotFound, Unavailable
from support.postgres_server import PostgresServer, postgres_server, program
from support.registrations import NOW_MS, account

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("registrar")]


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    if program("initdb") is None:
        pytest.skip("PostgreSQL is not installed")
    with postgres_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/registrar.sqlite"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.url


@pytest.fixture
async def accounts(url: str) -> AsyncIterator[SqlAccounts]:
    # Two replicas that start at once, as in a new cluster.
    store, other = SqlAccounts(url), SqlAccounts(url)
    await asyncio.gather(store.upgrade(), other.upgrade())
    await other.close()
    for each in await store.page("", 1000):
        await store.delete(each.aor)
    yield store
    await store.close()


async def test_an_account_is_read_back_whole(accounts: SqlAccounts) -> None:
    assert await accounts.put(account("1004")) == (account("1004"), True)
    assert await accounts.load(["1004@pbx.local", "9999@pbx.local"]) == {"1004@pbx.local": account("1004")}
    await accounts.ping()


async def test_a_replaced_account_keeps_its_beginning(accounts: SqlAccounts) -> None:
    await accounts.put(account("1004", "old"))
    later = account("1004", "new")
    stored, created = await accounts.put(later)
    assert (created, stored.created_at_ms, stored.ha1) == (False, NOW_MS, later.ha1)
    assert await accounts.load(["1004@pbx.local"]) == {"1004@pbx.local": stored}


async def test_a_limit_of_calls_is_kept_where_nothing_is_said_of_it(accounts: SqlAccounts) -> None:
    limited = dataclasses.replace(account("1004"), calls_max=3)
    assert (await accounts.put(limited))[0].calls_max == 3
    assert (await accounts.put(account("1004", "new"), Put(keep_calls_max=True)))[0].calls_max == 3
    assert (await accounts.load(["1004@pbx.local"]))["1004@pbx.local"].calls_max == 3
    assert (await accounts.put(account("1004", "newer")))[0].calls_max == 0


async def test_what_is_set_of_an_account_changes_alone(accounts: SqlAccounts) -> None:
    await accounts.put(account("1004"))
    changed = await accounts.change("1004@pbx.local", None, 25)
    assert changed == dataclasses.replace(account("1004"), calls_max=25)
    renamed = await accounts.change("1004@pbx.local", "Reception", None)
    assert renamed == dataclasses.replace(account("1004"), calls_max=25, display_name="Reception")
    assert await accounts.change("1004@pbx.local", None, None) == renamed
    assert await accounts.change("9999@pbx.local", None, 1) is None


async def test_an_account_is_made_only_where_there_is_none_and_replaced_only_where_there_is_one(
    accounts: SqlAccounts,
) -> None:
    with pytest.raises(NotFound, match=r"no account 1004@pbx\.local"):
        await accounts.put(account("1004"), Put(must_exist=True))
    named = dataclasses.replace(account("1004", "old"), display_name="Ada")
    await accounts.put(named, Put(must_be_new=True))
    with pytest.raises(AlreadyExists, match=r"1004@pbx\.local"):
        await accounts.put(account("1004", "new"), Put(must_be_new=True))
    assert await accounts.load(["1004@pbx.local"]) == {"1004@pbx.local": named}, "nothing was changed"
    unnamed = dataclasses.replace(account("1004", "new"), display_name="")
    stored, created = await accounts.put(unnamed, Put(must_exist=True, keep_name=True))
    assert (created, stored.display_name, stored.ha1) == (False, "Ada", unnamed.ha1)


async def test_of_replicas_that_create_an_account_at_once_one_does(accounts: SqlAccounts, url: str) -> None:
    other = SqlAccounts(url)
    try:
        answers = await asyncio.gather(*(store.put(account("1004")) for store in (accounts, other) * 3))
        assert sum(created for _, created in answers) == 1
    finally:
        await other.close()


async def test_one_user_in_two_domains_is_two_accounts(accounts: SqlAccounts) -> None:
    await accounts.put(account("1004"))
    await accounts.put(account("1004", domain="other.example"))
    assert len(await accounts.load(["1004@pbx.local", "1004@other.example"])) == 2
    assert await accounts.delete("1004@pbx.local")
    assert list(await accounts.load(["1004@pbx.local", "1004@other.example"])) == ["1004@other.example"]


async def test_deleting_says_whether_it_was_there(accounts: SqlAccounts) -> None:
    await accounts.put(account("1004"))
    assert await accounts.delete("1004@pbx.local")
    assert not await accounts.delete("1004@pbx.local")


async def test_pages_in_order_of_user(accounts: SqlAccounts) -> None:
    for user in ("1010", "1002", "1001", "200"):
        await accounts.put(account(user))
    assert [each.user for each in await accounts.page("", 3)] == ["1001", "1002", "1010"]
    assert [each.user for each in await accounts.page("1010@pbx.local", 3)] == ["200"]


async def test_many_are_loaded_in_parts(accounts: SqlAccounts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pbx_registrar.storage.accounts.LOAD_MAX", 2)
    for user in ("1001", "1002", "1003"):
        await accounts.put(account(user))
    wanted = [f"{number}@pbx.local" for number in range(1000, 1006)]
    assert sorted(await accounts.load(wanted)) == ["1001@pbx.local", "1002@pbx.local", "1003@pbx.local"]


async def test_upgrading_again_changes_nothing(accounts: SqlAccounts) -> None:
    await accounts.put(account("1004"))
    await accounts.upgrade()
    assert len(await accounts.page("", 10)) == 1


async def test_a_postgresql_that_restarts_is_unavailable_and_then_serves(postgres: PostgresServer) -> None:
    store = SqlAccounts(postgres.url)
    try:
        await store.upgrade()
        postgres.stop()
        with pytest.raises(Unavailable) as away:
            await store.ping()
        assert "pbx@" not in away.value.detail
        postgres.start()
        await store.ping()
    finally:
        await store.close()
