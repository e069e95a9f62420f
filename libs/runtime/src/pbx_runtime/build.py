"""What is running: the version of the product, and how it names itself to HTTP servers."""

from __future__ import annotations

from importlib import metadata
from typing import Final


def _version() -> str:
    try:
        return metadata.version("pbx-runtime")
    except metadata.PackageNotFoundError:
        return "unknown"


VERSION: Final = _version()
"""Of all packages of one installation; "unknown" where they are not installed."""
USER_AGENT: Final = f"sip-pbx/{VERSION}"
"""RFC 9110 section 10.1.5: receivers of webhooks and CDRs filter by it."""
