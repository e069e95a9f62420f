"""A Lua script and its hash, as a value."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

Argument = bytes | str | int | float


@dataclass(frozen=True, slots=True)
class Script:
    """Source of a script; `sha` is how EVALSHA names it."""

    source: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        # SHA-1 is Redis's name for a script, not a protection.
        object.__setattr__(self, "sha", hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest())

    def command(self, keys: Sequence[Argument], args: Sequence[Argument] = ()) -> tuple[Argument, ...]:
        """The EVALSHA command; also for use in a transaction, where the script must be registered."""
        return ("EVALSHA", self.sha, len(keys), *keys, *args)
