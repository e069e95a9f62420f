"""Settings from the environment: defaults, files, and messages that name the variable and the fix."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import Field, SecretStr

from pbx_runtime.settings import CommaList, Listen, ServiceSettings, SettingsError, exit_with_settings_error


class Demo(ServiceSettings):
    service: ClassVar[str] = "demo"
    grpc_listen: Listen = Listen("127.0.0.1", 9101)
    peers: CommaList = ()
    key: SecretStr | None = None
    needed: str = Field(default="x", min_length=1)


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PBX_DATA", "PBX_REDIS_URL", "DATABASE_URL", "PBX_LOG_LEVEL", "PBX_SHUTDOWN_S", "PBX_INSTANCE_ID"):
        monkeypatch.delenv(name, raising=False)


def test_defaults() -> None:
    settings = Demo.load()
    assert settings.grpc_listen == Listen("127.0.0.1", 9101)
    assert settings.redis_url == "redis://127.0.0.1:6379/0"
    assert settings.sql_url() == f"sqlite+aiosqlite:///{Path('var').absolute()}/demo.sqlite"
    assert 1 <= len(settings.instance_id) <= 16
    assert Demo.load().instance_id != settings.instance_id


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PBX_HTTP_LISTEN", "[::1]:8080")
    monkeypatch.setenv("PBX_PEERS", " a:1, ,b:2")
    monkeypatch.setenv("DATABASE_URL", "postgresql+asyncpg://u@h/d")
    monkeypatch.setenv("PBX_LOG_LEVEL", "")  # empty is unset, as in a chart's template
    settings = Demo.load()
    assert settings.http_listen == Listen("::1", 8080)
    assert settings.peers == ("a:1", "b:2")
    assert settings.sql_url() == "postgresql+asyncpg://u@h/d"
    assert settings.log_level == "info"


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Demo.load().log_level = "debug"


def test_a_secret_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("s3cret\n")
    monkeypatch.setenv("PBX_KEY_FILE", str(tmp_path / "key"))
    settings = Demo.load()
    assert settings.key is not None
    assert settings.key.get_secret_value() == "s3cret"
    assert "s3cret" not in repr(settings)


def test_a_secret_and_its_file_are_a_contradiction(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("a")
    monkeypatch.setenv("PBX_KEY", "b")
    monkeypatch.setenv("PBX_KEY_FILE", str(tmp_path / "key"))
    with pytest.raises(SettingsError, match="PBX_KEY and PBX_KEY_FILE are both set: unset one"):
        Demo.load()


def test_a_missing_secret_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PBX_KEY_FILE", "/nowhere/key")
    with pytest.raises(SettingsError, match=r"PBX_KEY_FILE: cannot read /nowhere/key: .*No such file"):
        Demo.load()


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("PBX_GRPC_LISTEN", "9101", "PBX_GRPC_LISTEN: '9101' is not host:port (for example 127.0.0.1:8080"),
        ("PBX_GRPC_LISTEN", "::1:9101", "an IPv6 address needs brackets"),
        ("PBX_SHUTDOWN_S", "soon", "PBX_SHUTDOWN_S: Input should be a valid number"),
        ("PBX_LOG_LEVEL", "loud", "PBX_LOG_LEVEL: Input should be 'debug', 'info'"),
        ("PBX_INSTANCE_ID", "Not Valid", "PBX_INSTANCE_ID: String should match pattern"),
        ("PBX_REDIS_URL", "localhost", "PBX_REDIS_URL: String should match pattern"),
    ],
)
def test_mistakes_name_their_variable(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        Demo.load()
    assert message in str(caught.value)


def test_a_mistake_in_a_secret_does_not_show_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PBX_REDIS_URL", "http://:hunter2@host")
    with pytest.raises(SettingsError) as caught:
        Demo.load()
    assert "hunter2" not in str(caught.value)


def test_every_mistake_is_told_at_once_and_the_exit_code_is_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PBX_SHUTDOWN_S", "-1")
    monkeypatch.setenv("PBX_LOG_FORMAT", "xml")
    with pytest.raises(SettingsError) as caught:
        Demo.load()
    with pytest.raises(SystemExit) as ended:
        exit_with_settings_error(caught.value)
    assert ended.value.code == 2
    shown = capsys.readouterr().err
    assert "PBX_SHUTDOWN_S:" in shown
    assert "PBX_LOG_FORMAT:" in shown


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("0.0.0.0:5060", "0.0.0.0", 5060), ("[::]:1", "::", 1), ("name.example:65535", "name.example", 65535)],
)
def test_listen_reads_what_it_writes(text: str, host: str, port: int) -> None:
    listen = Listen.parse(text)
    assert listen == Listen(host, port)
    assert str(listen) == text
    assert Listen.parse(str(listen)) == listen


@pytest.mark.parametrize(
    "text", ["", ":", ":80", "host", "host:", "host:65536", "host:-1", "host:8x", "[::1]", "[x]:1"]
)
def test_what_is_no_listen_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Listen.parse(text)


def test_listen_knows_wildcards_and_loopback() -> None:
    assert Listen("0.0.0.0", 1).is_wildcard
    assert Listen("::", 1).is_wildcard
    assert not Listen("10.0.0.1", 1).is_wildcard
    assert Listen("127.9.9.9", 1).is_loopback
    assert Listen("localhost", 1).is_loopback
    assert not Listen("example.org", 1).is_loopback
