"""Settings of the events service (ARCHITECTURE.md, "Settings")."""

from __future__ import annotations

from typing import ClassVar

from pbx_runtime.address import Listen
from pbx_runtime.settings import CommaList, ServiceSettings


class EventsSettings(ServiceSettings):
    """What a replica is told."""

    service: ClassVar[str] = "events"

    http_listen: Listen = Listen("127.0.0.1", 8080)
    grpc_listen: Listen = Listen("127.0.0.1", 9104)
    registrar_address: str = "127.0.0.1:9101"
    signaling_addresses: CommaList = ("127.0.0.1:9102",)
