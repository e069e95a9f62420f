"""The data directory of one machine: locked by one supervisor, with its generated secrets at mode 0600."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from pbx_cli.errors import CliError
from pbx_cli.up.options import AccountWish

ACCOUNTS = "accounts.json"
DEFAULT_USERS = ("1004", "1008")
PASSWORD_CHARACTERS = 12
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
"""Nothing that a person types wrong on a phone's keypad: no 0, o, 1, l, no capitals."""


class DataDir:
    """An open data directory; the lock ends with the process, however it ends."""

    def __init__(self, path: Path) -> None:
        """Make and lock it. Raises CliError where that fails, naming who holds the lock."""
        self.path = path.absolute()
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Append: a file opened for writing would lose the pid of whoever holds the lock.
            self._lock: IO[str] = (self.path / "lock").open("a+", encoding="utf-8")
        except OSError as error:
            raise CliError(f"--data: cannot use {self.path}: {error.strerror}; choose another directory") from None
        self._acquire()

    def _acquire(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.seek(0)
            holder = self._lock.read().strip() or "unknown"
            self._lock.close()
            raise CliError(
                f"{self.path} is in use by another sip-pbx (pid {holder}); stop it, or choose another --data"
            ) from None
        self._lock.truncate(0)
        self._lock.write(f"{os.getpid()}\n")
        self._lock.flush()

    def close(self) -> None:
        """Give the lock back."""
        self._lock.close()

    def nonce_key_file(self) -> Path:
        """The file with the key that signs digest nonces (hex, 32 octets); made once."""
        path = self.path / "nonce.key"
        if not path.exists():
            write_private(path, secrets.token_hex(32) + "\n")
        return path

    def accounts(self, wishes: Sequence[AccountWish]) -> tuple[AccountWish, ...]:
        """The accounts to create: those asked for, else 1004 and 1008. Missing passwords are made once and kept.

        One that was removed since (`remember_password` with None) is not made again.
        """
        path = self.path / ACCOUNTS
        kept: dict[str, str | None] = _read_json(path) if path.exists() else {}
        wanted = wishes or [AccountWish(user, "") for user in DEFAULT_USERS]
        wanted = [wish for wish in wanted if wish.password or kept.get(wish.user, "") is not None]
        found = tuple(AccountWish(w.user, w.password or kept.get(w.user) or new_password()) for w in wanted)
        made = {a.user: a.password for a, w in zip(found, wanted, strict=True) if not w.password}
        if made.items() - kept.items():
            write_private(path, json.dumps(kept | made, indent=1) + "\n")
        return found

    def write_endpoints(self, document: dict[str, Any]) -> None:
        """Tell the verbs of the command line where everything is."""
        write_private(self.path / "endpoints.json", json.dumps(document, indent=1) + "\n")

    def remove_endpoints(self) -> None:
        """Nothing runs here any more."""
        (self.path / "endpoints.json").unlink(missing_ok=True)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CliError(f"cannot read {path}: {error}; mend or remove it") from None
    return content


def new_password() -> str:
    """A password that can be typed on a phone: 12 characters of 32, 60 bits."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(PASSWORD_CHARACTERS))


def remember_password(data: Path, user: str, password: str | None) -> None:
    """Note that a password was changed, or the account removed (None), so that the next `up` does not undo it.

    Only accounts whose password `up` keeps are noted; a data directory that is not there is none of ours.
    """
    path = data / ACCOUNTS
    kept = _read_json(path) if path.exists() else {}
    if user in kept:
        write_private(path, json.dumps(kept | {user: password}, indent=1) + "\n")


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)
