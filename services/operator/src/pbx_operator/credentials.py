"""Where the API server is, and how to be let in: the pod's service account, or KUBECONFIG.

In a pod the address is the one that the kubelet gives (KUBERNETES_SERVICE_HOST), as for every other client: the name
kubernetes.default.svc needs a DNS that works.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import kopf

TOKEN_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


class NoClusterError(Exception):
    """Neither a service account nor a kubeconfig."""


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach the API server."""

    url: str
    headers: Callable[[], Mapping[str, str]]
    ssl: ssl.SSLContext | None


def find_access() -> Access:
    """Look in the usual places. Raises NoClusterError that says where."""
    settings = kopf.OperatorSettings()
    account = in_pod(os.environ, settings=settings)
    if account is not None:
        return Access(account.server, _token_header, account.as_ssl_context())
    config = kopf.login_with_kubeconfig(settings=settings)
    if config is None:
        raise NoClusterError("no API server: neither a service account in this pod nor KUBECONFIG (or ~/.kube/config)")
    headers = config.as_http_headers()
    context = config.as_ssl_context() if config.server.startswith("https") else None
    return Access(config.server, lambda: headers, context)


def register(registry: kopf.OperatorRegistry) -> None:
    """Let kopf's watches in the same way."""

    @kopf.on.login(registry=registry)
    def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return in_pod(os.environ, **kwargs) or kopf.login_with_kubeconfig(**kwargs)


def in_pod(environment: Mapping[str, str], **kwargs: Any) -> kopf.ConnectionInfo | None:
    """The pod's service account; None: not in a pod."""
    found = kopf.login_with_service_account(**kwargs)
    host, port = environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "443")
    if found is None or not host:
        return found
    return replace(found, server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}")


def _token_header() -> Mapping[str, str]:
    # Read anew: the kubelet replaces the token within the hour.
    return {"Authorization": f"Bearer {TOKEN_FILE.read_text(encoding='ascii').strip()}"}
