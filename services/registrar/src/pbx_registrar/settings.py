"""Settings of the registrar (ARCHITECTURE.md, "Settings")."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, SecretStr, field_validator

from pbx_runtime.address import Listen
from pbx_runtime.settings import ServiceSettings


class RegistrarSettings(ServiceSettings):
    """What a replica is told."""

    service: ClassVar[str] = "registrar"

    grpc_listen: Listen = Listen("127.0.0.1", 9101)
    domain: str = Field(default="pbx.local", min_length=1, max_length=255)
    """The SIP domain and digest realm."""
    nonce_key: SecretStr
    """Hex, 32 octets; signaling's own."""
    min_expires_s: int = Field(default=60, ge=1)
    default_expires_s: int = Field(default=3600, ge=1)
    max_expires_s: int = Field(default=7200, ge=1)
    contacts_max: int = Field(default=10, ge=1, le=100)

    @field_validator("nonce_key")
    @classmethod
    def _is_hex(cls, value: SecretStr) -> SecretStr:
        try:
            key = bytes.fromhex(value.get_secret_value())
        except ValueError:
            raise ValueError("is not hex: 32 random octets in hex are wanted") from None
        if len(key) < 16:
            raise ValueError("is too short: 32 random octets in hex are wanted")
        return value
