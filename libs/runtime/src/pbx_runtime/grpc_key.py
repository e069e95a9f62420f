"""The shared key of all services as it stands in a setting: one, or several while it is changed."""

from __future__ import annotations

from typing import Final

KEY_CHARACTERS_MIN: Final = 32
"""A key is random, not a word: 32 hex digits are 128 bits."""
KEYS_MAX: Final = 4
"""The one in use, the one before and the one to come; more is a mistake."""


def parse_keys(text: str) -> tuple[str, ...]:
    """The keys in a setting, separated by commas or white space. Raises ValueError, without the keys."""
    keys = tuple(text.replace(",", " ").split())
    if not keys:
        raise ValueError("is empty")
    if any(len(key) < KEY_CHARACTERS_MIN for key in keys):
        raise ValueError(f"a key needs {KEY_CHARACTERS_MIN} random characters or more (`openssl rand -hex 32`)")
    if len(keys) > KEYS_MAX:
        raise ValueError(f"more than {KEYS_MAX} keys: the new one, and the one before it while both are in use")
    return keys
