"""What the registrar is told by its environment; see ARCHITECTURE.md for the table."""

from __future__ import annotations

from typing import ClassVar, Final, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from pbx_registrar.bindings import Policy
from pbx_runtime.address import Listen
from pbx_runtime.settings import CommaList, Place, ServiceSettings
from pbx_sip.auth.digest import HASHES, QOPS, STRONGEST_FIRST

NONCE_KEY_OCTETS: Final = 32


class RegistrarSettings(ServiceSettings):
    """Frozen; made once at start."""

    service: ClassVar[str] = "registrar"

    grpc_listen: Place = Listen("127.0.0.1", 9101)
    """Where the gRPC server listens."""
    http_listen: Listen = Listen("127.0.0.1", 9111)
    """Where metrics and health are served."""
    domain: str = Field(default="pbx.local", min_length=1, max_length=253)
    """The SIP domain and digest realm of accounts that name none."""
    nonce_key: SecretStr
    """Hex, 32 octets; the one that signaling signs its nonces with."""
    digest_algorithms: CommaList = STRONGEST_FIRST
    """What signaling offers, the same setting: responses with others are refused."""
    digest_qop: CommaList = ("auth",)
    """The same; `none` takes responses without qop."""
    default_expires_s: int = Field(default=3600, ge=1, le=86_400)
    """Lifetime of a contact that asks for none."""
    min_expires_s: int = Field(default=60, ge=1, le=3600)
    """Shorter requests are answered 423."""
    max_expires_s: int = Field(default=7200, ge=60, le=604_800)
    """Longer requests are cut to it."""
    contacts_max: int = Field(default=10, ge=1, le=100)
    """Bindings of one address-of-record."""

    @field_validator("nonce_key")
    @classmethod
    def _is_key(cls, value: SecretStr) -> SecretStr:
        try:
            octets = bytes.fromhex(value.get_secret_value())
        except ValueError:
            raise ValueError("is not hex") from None
        if len(octets) != NONCE_KEY_OCTETS:
            raise ValueError(f"needs {NONCE_KEY_OCTETS} octets in hex, the same for registrar and signaling")
        return value

    @model_validator(mode="after")
    def _offers(self) -> Self:
        if not self.digest_algorithms or not HASHES.keys() >= set(self.digest_algorithms):
            raise ValueError(f"PBX_DIGEST_ALGORITHMS: some of {', '.join(HASHES)}")
        if not self.digest_qop or not set(QOPS) >= set(self.digest_qop):
            raise ValueError(f"PBX_DIGEST_QOP: some of {', '.join(QOPS)}")
        return self

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.min_expires_s <= self.default_expires_s <= self.max_expires_s:
            raise ValueError("PBX_MIN_EXPIRES_S <= PBX_DEFAULT_EXPIRES_S <= PBX_MAX_EXPIRES_S is needed")
        return self

    @property
    def policy(self) -> Policy:
        """Lifetimes and limits as the rules take them."""
        return Policy(
            expires_default_s=self.default_expires_s,
            expires_min_s=self.min_expires_s,
            expires_max_s=self.max_expires_s,
            bindings_max=self.contacts_max,
        )
