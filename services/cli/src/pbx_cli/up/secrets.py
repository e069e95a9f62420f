"""Which secret of the supervisor's environment goes to which child: only what that process uses. Pure.

Threat: a relay or a Redis that is taken over reads its own environment, and finds the token of the whole API there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_SECRET: Final = re.compile(
    r"TOKEN|SECRET|PASSW|CREDENTIAL|(?:^|_)(?:KEY|KEYS|PASS|PAT)(?:_|$)|DATABASE_URL|REDIS_URL|_DSN$"
)
"""Names that hold secrets by custom, ours and those of other programs of whoever started us."""
USED_BY: Final[dict[str, frozenset[str]]] = {
    "redis": frozenset(),
    "registrar": frozenset({"DATABASE_URL"}),
    "media-relay": frozenset(),
    "events": frozenset({"DATABASE_URL", "PBX_API_TOKEN", "PBX_API_READ_TOKEN", "PBX_CDR_HTTP_TOKEN"}),
    "signaling": frozenset({"PBX_SIP_TLS_KEY"}),
}
"""Service to the secrets of the environment that it reads. A `_FILE` goes where its variable goes."""


def environment_for(service: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without the secrets that this service does not use; Redis gets no setting of ours at all."""
    used = USED_BY[service]
    return {
        name: value
        for name, value in environment.items()
        if name.removesuffix("_FILE") in used
        or not (is_secret(name) or (service == "redis" and name.startswith("PBX_")))
    }


def is_secret(name: str) -> bool:
    """Whether a variable holds a secret, by its name."""
    return _SECRET.search(name.upper()) is not None
