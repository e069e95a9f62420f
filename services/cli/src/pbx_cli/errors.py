"""What the command line tells a person when it cannot go on: what is wrong, and what mends it."""

from __future__ import annotations

EXIT_FAILED = 1
EXIT_USAGE = 2


class CliError(Exception):
    """Ends the command with its message on stderr and `code` as exit code."""

    def __init__(self, message: str, code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.code = code


class AlreadyThere(CliError):
    """What was to be made is there."""


class NoSuchThing(CliError):
    """A peer that was asked knows nothing of it; another one may."""
