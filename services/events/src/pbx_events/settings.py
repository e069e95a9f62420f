"""Settings of the events service (ARCHITECTURE.md, "Settings")."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from pbx_events.api.limit import RATE_DEFAULT
from pbx_runtime.address import Listen
from pbx_runtime.settings import CommaList, Place, ServiceSettings


class EventsSettings(ServiceSettings):
    """What a replica is told."""

    service: ClassVar[str] = "events"

    http_listen: Listen = Listen("127.0.0.1", 8080)
    grpc_listen: Place = Listen("127.0.0.1", 9104)
    registrar_address: str = "127.0.0.1:9101"
    """Where the registrar serves gRPC: host:port, or unix:///path."""
    signaling_addresses: CommaList = ()
    """gRPC addresses of signaling instances; empty: found by their leases in Redis."""
    api_token: str = Field(default="", repr=False)
    """Bearer token that may do everything; empty, and the one below too: only this machine may ask."""
    api_read_token: str = Field(default="", repr=False)
    """Bearer token that may read."""
    api_rate: float = Field(default=RATE_DEFAULT, ge=0, le=100_000)
    """Requests per second of one token, or of one address without one; 0: as many as they like."""
    webhook_allow_private: bool = False
    """Whether webhooks may go to private addresses and by plain http."""
    cdr_file_dir: Path | None = None
    """Where CDRs are written as JSON lines; empty: nowhere."""
    cdr_file_keep: int = Field(default=30, ge=1, le=10_000)
    """Rotated files that are kept beside the current one."""
    cdr_http_url: str = ""
    """Where CDRs are posted in batches; empty: nowhere."""
    cdr_http_token: str = Field(default="", repr=False)
    """Bearer token for that."""
    cdr_days: int = Field(default=0, ge=0)
    """Days that CDRs are kept; 0: for ever."""
    event_days: int = Field(default=90, ge=0)
    """Days that events, and the log of deliveries of them, are kept; 0: for ever."""

    @field_validator("cdr_http_url")
    @classmethod
    def _is_http(cls, url: str) -> str:
        if url and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname):
            raise ValueError("must be an http or https URL")
        return url
