"""Settings of the operator (ARCHITECTURE.md, "Settings")."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from pbx_operator.policy import DATAPATHS, Policy
from pbx_runtime.address import Listen
from pbx_runtime.settings import CommaList, ServiceSettings


class OperatorSettings(ServiceSettings):
    """What a replica is told. Where the API server is comes from the service account, or from KUBECONFIG."""

    service: ClassVar[str] = "operator"

    http_listen: Listen = Listen("127.0.0.1", 9115)
    operator_namespace: str = Field(default="default", min_length=1, max_length=63)
    """Namespace of the lease by which replicas choose who acts."""
    watch_namespace: str = Field(default="", max_length=63)
    """Namespace of the pools; empty: every one."""
    relay_image: str = Field(default="", max_length=1024)
    """Image of relays whose pool names none."""
    relay_images: CommaList = ()
    """Images that pools may name beside it: IMAGE:TAG, or IMAGE for every tag of it."""
    relay_datapaths: CommaList = tuple(sorted(DATAPATHS))
    """Datapaths that pools may ask for; `ebpf` runs as root."""
    relay_service_account: str = Field(default="", max_length=253)
    """Service account of relays; empty: the default one of the pool's namespace."""
    operator_interval_s: float = Field(default=5.0, gt=0, le=300)
    """Seconds between two passes where nothing happens; calls are counted as often."""

    def policy(self) -> Policy:
        """What pools may ask for."""
        return Policy(self.relay_image, self.relay_images, frozenset(self.relay_datapaths), self.relay_service_account)
