"""Settings of the events service (ARCHITECTURE.md, "Settings")."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from pbx_runtime.address import Listen
from pbx_runtime.settings import CommaList, ServiceSettings


class EventsSettings(ServiceSettings):
    """What a replica is told."""

    service: ClassVar[str] = "events"

    http_listen: Listen = Listen("127.0.0.1", 8080)
    grpc_listen: Listen = Listen("127.0.0.1", 9104)
    registrar_address: str = "127.0.0.1:9101"
    signaling_addresses: CommaList = ("127.0.0.1:9102",)
    api_token: str = Field(default="", repr=False)
    """Bearer token that may do everything; empty, and the one below too: only this machine may ask."""
    api_read_token: str = Field(default="", repr=False)
    """Bearer token that may read."""
    webhook_allow_private: bool = False
    """Whether webhooks may go to private addresses and by plain http."""
