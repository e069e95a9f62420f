"""What the environment may say."""

from __future__ import annotations

import pytest

from pbx_registrar.settings import RegistrarSettings
from pbx_runtime.settings import SettingsError

KEY = "00" * 32


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PBX_NONCE_KEY", KEY)


def test_defaults() -> None:
    settings = RegistrarSettings.load()
    policy = settings.policy
    assert (settings.domain, str(settings.grpc_listen)) == ("pbx.local", "127.0.0.1:9101")
    assert (policy.expires_min_s, policy.expires_default_s, policy.expires_max_s) == (60, 3600, 7200)
    assert policy.bindings_max == 10


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PBX_NONCE_KEY", "short"),
        ("PBX_NONCE_KEY", "00" * 31),
        ("PBX_NONCE_KEY", ""),
        ("PBX_MIN_EXPIRES_S", "0"),
        ("PBX_CONTACTS_MAX", "0"),
        ("PBX_DOMAIN", "x" * 254),
    ],
)
def test_what_makes_no_sense_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as refused:
        RegistrarSettings.load()
    assert name in str(refused.value)
    assert not value or value not in str(refused.value).replace(name, "")


def test_lifetimes_must_be_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PBX_DEFAULT_EXPIRES_S", "30")
    with pytest.raises(SettingsError, match="PBX_MIN_EXPIRES_S"):
        RegistrarSettings.load()


def test_the_key_does_not_show() -> None:
    assert KEY not in repr(RegistrarSettings.load())
