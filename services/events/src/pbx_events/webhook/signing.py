"""Signatures as Standard Webhooks defines them (v1: HMAC-SHA-256 over "id.timestamp.body")."""

from __future__ import annotations

import base64
import hmac
import secrets
from collections.abc import Sequence


def new_secret() -> str:
    """A fresh secret: 32 random octets, as "whsec_<base64>"."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def headers(secrets_valid: Sequence[str], message_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """The three headers of a delivery, signed with each of the secrets: a receiver may know either."""
    signed = f"{message_id}.{timestamp_s}.".encode() + body
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": " ".join(f"v1,{_signature(secret, signed)}" for secret in secrets_valid),
    }


def _signature(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    return base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
