"""The accounts of `up` from a file or from stdin: passwords that stand in no command line.

A line an account, `USER:PASSWORD`, or `USER` alone for a password that is made once. Empty lines and lines that begin
with `#` are left out.
"""

from __future__ import annotations

import stat
import sys
from pathlib import Path
from typing import Final

from pbx_cli.errors import EXIT_USAGE, CliError
from pbx_cli.up.options import AccountWish, parse_account
from pbx_runtime import logs

STDIN: Final = "-"
CHARACTERS_MAX: Final = 1_000_000
"""Some ten thousand accounts. A file that names a device must not fill the memory."""

_log = logs.get_logger("up")


def read_accounts(path: str) -> tuple[AccountWish, ...]:
    """The accounts in a file; `-`: on stdin. Raises CliError that names the line, never a password."""
    try:
        if path == STDIN:
            text = sys.stdin.read(CHARACTERS_MAX + 1)
        else:
            with open(path, encoding="utf-8") as file:
                text = file.read(CHARACTERS_MAX + 1)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is no UTF-8"
        raise CliError(f"--accounts-file: cannot read {path}: {reason}", EXIT_USAGE) from None
    if len(text) > CHARACTERS_MAX:
        raise CliError(f"--accounts-file: {path} has more than {CHARACTERS_MAX} characters", EXIT_USAGE)
    return parse_accounts(path, text)


def parse_accounts(path: str, text: str) -> tuple[AccountWish, ...]:
    """Read the lines of a file. Raises CliError."""
    found: dict[str, AccountWish] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            account = parse_account(line if ":" in line else line.strip())
        except CliError:
            message = f"--accounts-file: {path}, line {number}: not USER:PASSWORD; USER is letters, digits or . _ + -"
            raise CliError(message, EXIT_USAGE) from None
        if account.user in found:
            raise CliError(f"--accounts-file: {path}, line {number}: {account.user} stands there twice", EXIT_USAGE)
        found[account.user] = account
    if not found:
        raise CliError(f"--accounts-file: {path} names no account", EXIT_USAGE)
    return tuple(found.values())


def warn_if_readable(path: str) -> None:
    """Say so where others of this machine can read the passwords too."""
    if path != STDIN and stat.S_IMODE(Path(path).stat().st_mode) & 0o077:
        _log.warning("others can read the accounts file: chmod 600", path=path)
