"""Watches on everything that a pass reads. An event only says "look": what is to be done follows from the whole.

So a watch that breaks, or an event that comes twice or late, changes nothing but the moment of the next pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import kopf

from pbx_operator.crd.base import GROUP, VERSION
from pbx_operator.observed import COMPONENT, LABEL_COMPONENT


def register(registry: kopf.OperatorRegistry, wake: Callable[[], object]) -> None:
    """Add the watches to a registry of kopf."""

    async def on_event(**_: Any) -> None:
        wake()

    @kopf.on.startup(registry=registry)
    async def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.posting.enabled = False  # events are ours (render/event.py)
        settings.scanning.disabled = False
        settings.watching.server_timeout = 300
        settings.watching.client_timeout = 330

    kopf.on.event(GROUP, VERSION, "mediarelaypools", registry=registry)(on_event)
    kopf.on.event(GROUP, VERSION, "relayshards", registry=registry)(on_event)
    kopf.on.event("", "v1", "pods", labels={LABEL_COMPONENT: COMPONENT}, registry=registry)(on_event)
    kopf.on.event("", "v1", "nodes", when=_matters, registry=registry)(on_event)


def _matters(type: str | None, event: Any, **_: Any) -> bool:
    # Kubelets touch their node every few seconds; what changes slowly is seen by the next regular pass.
    return type in ("ADDED", "DELETED") or bool((event["object"].get("spec") or {}).get("unschedulable"))
