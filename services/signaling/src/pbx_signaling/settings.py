"""Settings of the signaling service (ARCHITECTURE.md, "Settings")."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, SecretStr, model_validator

from pbx_runtime.address import Listen
from pbx_runtime.settings import CommaList, ServiceSettings


class SignalingSettings(ServiceSettings):
    """What an instance is told."""

    service: ClassVar[str] = "signaling"

    sip_listen: Listen = Listen("0.0.0.0", 5060)  # noqa: S104  # phones come from everywhere
    """Where SIP is served."""
    advertise: str = ""
    """The address written into Via and Contact; needed where `sip_listen` is a wildcard."""
    domain: str = Field(default="pbx.local", min_length=1, max_length=255)
    """The SIP domain and digest realm."""
    nonce_key: SecretStr | None = None
    """Hex, 32 octets; the registrar's own. Needed unless `authenticate` is off."""
    authenticate: bool = True
    """Whether INVITE and REGISTER need a digest."""
    registrar_address: str = "127.0.0.1:9101"
    relays: CommaList = ()
    """gRPC addresses of relays; empty: found by their leases."""
    calls_max: int = Field(default=20_000, gt=0)
    transactions_max: int = Field(default=200_000, gt=0)
    no_answer_s: float = Field(default=120.0, gt=0)
    longest_call_s: float = Field(default=14_400.0, gt=0)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.sip_listen.is_wildcard and not self.advertise:
            raise ValueError(
                "PBX_ADVERTISE is needed where PBX_SIP_LISTEN is a wildcard: name the address of this host"
            )
        if self.authenticate and self.nonce_key is None:
            raise ValueError("PBX_NONCE_KEY is needed: 32 random octets in hex, the same for registrar and signaling")
        if self.nonce_key is not None:
            try:
                bytes.fromhex(self.nonce_key.get_secret_value())
            except ValueError:
                raise ValueError("PBX_NONCE_KEY is not hex") from None
        return self

    @property
    def advertised_host(self) -> str:
        """The address that phones are told."""
        return self.advertise or self.sip_listen.host
