"""An event as CloudEvents 1.0, structured JSON: what webhooks, the feed and the API show."""

from __future__ import annotations

from typing import Any

from pbx_events.cdr.builder import iso
from pbx_events.envelope import Envelope, instance_of
from pbx_events.webhook.shape import data_of


def cloud_event(event: Envelope) -> dict[str, Any]:
    """CloudEvents 1.0, structured JSON."""
    document: dict[str, Any] = {
        "specversion": "1.0",
        "id": event.id,
        "source": f"sip-pbx/{instance_of(event.source)}",
        "type": f"io.pbx.{event.type}.v1",
        "subject": event.call_id or event.data.get("aor") or event.data.get("recipient", ""),
        "time": iso(event.at_ms),
        "datacontenttype": "application/json",
        "data": data_of(event),
    }
    if event.traceparent:
        document["traceparent"] = event.traceparent  # CloudEvents: distributed tracing extension
    return document
