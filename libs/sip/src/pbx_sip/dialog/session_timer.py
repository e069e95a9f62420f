"""Session timers (RFC 4028): agreeing on an interval and a refresher, and when to refresh or to give up.

Values and pure functions; the caller writes the headers with `str` and sends the re-INVITE or UPDATE. Each leg of a
B2BUA has its own.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from pbx_sip.errors import ParseError, RemoteError
from pbx_sip.message.headers import split_semicolons
from pbx_sip.message.message import Message, Request, Response
from pbx_sip.swift import swift

MIN_SE_FLOOR_S: Final = 90
"""No Min-SE may be below (section 5), and it is what a message without one means."""
DEFAULT_S: Final = 1800
"""The recommended session interval (section 4)."""
OPTION: Final = "timer"


class Refresher(enum.IntEnum):
    """Who keeps the session alive."""

    LOCAL = 0
    REMOTE = 1


class Duty(enum.IntEnum):
    """What is due."""

    NOTHING = 0
    REFRESH = 1
    """Send a re-INVITE or UPDATE."""
    END = 2
    """Send a BYE: no refresh came, or none of ours was accepted (section 10)."""


class IntervalTooSmall(RemoteError):
    """422: the peer's interval is below our minimum, which goes into Min-SE (section 6)."""

    def __init__(self, min_se_s: int) -> None:
        super().__init__(f"session interval below {min_se_s} s", 422)
        self.min_se_s = min_se_s


@swift
@dataclass(frozen=True, slots=True)
class SessionExpires:
    """A Session-Expires value: seconds, and the refresher by the role of this transaction ("uac", "uas" or "")."""

    interval_s: int
    refresher: str = ""

    @classmethod
    def parse(cls, value: str) -> SessionExpires:
        """Reads a value. Raises ParseError."""
        seconds, *parameters = split_semicolons(value) or [""]
        refresher = ""
        for parameter in parameters:
            name, _, content = parameter.partition("=")
            if name.strip().lower() == "refresher":
                refresher = content.strip().lower()
        if refresher not in ("", "uac", "uas"):
            raise ParseError("a refresher that is neither uac nor uas")
        return cls(_seconds(seconds), refresher)

    def __str__(self) -> str:
        """As on the wire."""
        return f"{self.interval_s};refresher={self.refresher}" if self.refresher else str(self.interval_s)


@dataclass(slots=True)
class SessionTimer:
    """What both sides agreed on, counted from the last refresh. Times in seconds of the caller's clock."""

    interval_s: int
    refresher: Refresher
    refreshed: float

    @property
    def refresh_at(self) -> float:
        """When our refresh is due: after half of the interval (section 7.2)."""
        return self.refreshed + self.interval_s / 2

    @property
    def ends_at(self) -> float:
        """When the session ends without refresh: 32 s or a third of the interval before its end (section 10)."""
        return self.refreshed + self.interval_s - min(32.0, self.interval_s / 3)

    @property
    def next_timeout(self) -> float:
        """When `due` has something to say."""
        return self.refresh_at if self.refresher is Refresher.LOCAL else self.ends_at

    def due(self, now: float) -> Duty:
        """What is due at `now`; the caller sends one refresh at a time."""
        if now >= self.ends_at:
            return Duty.END
        if self.refresher is Refresher.LOCAL and now >= self.refresh_at:
            return Duty.REFRESH
        return Duty.NOTHING


@dataclass(frozen=True, slots=True)
class SessionPolicy:
    """What this side wants."""

    interval_s: int = DEFAULT_S
    min_se_s: int = MIN_SE_FLOOR_S

    def raised(self, refusal: Response) -> SessionPolicy | None:
        """The policy for another try after a 422 (section 7.3); None where its Min-SE gives no reason for one."""
        minimum = min_se_of(refusal)
        if minimum <= self.min_se_s and minimum <= self.interval_s:
            return None
        return SessionPolicy(max(self.interval_s, minimum), max(self.min_se_s, minimum))

    def as_uas(self, request: Request, now: float) -> tuple[SessionTimer | None, SessionExpires | None]:
        """Agrees to what an INVITE or UPDATE asks (section 9): the timer, and the value for the 2xx.

        Neither where the peer asks for none and does not know timers: we do not insist. Raises IntervalTooSmall, and
        ParseError where the header cannot be read.
        """
        knows = OPTION in request.headers.tokens("Supported") | request.headers.tokens("Require")
        value = request.first("Session-Expires")
        if value is None and not knows:
            return None, None
        asked = SessionExpires(self.interval_s) if value is None else SessionExpires.parse(value)
        if asked.interval_s < self.min_se_s and knows:
            raise IntervalTooSmall(self.min_se_s)
        interval = max(min(asked.interval_s, self.interval_s), min_se_of(request), self.min_se_s)
        # "If the UAC did not indicate support ... the refresher MUST be uas" (table 2); else its wish, else uac.
        role = (asked.refresher or "uac") if knows else "uas"
        refresher = Refresher.REMOTE if role == "uac" else Refresher.LOCAL
        return SessionTimer(interval, refresher, now), SessionExpires(interval, role)

    def as_uac(self, response: Response, now: float) -> SessionTimer | None:
        """The timer that a 2xx to our INVITE or UPDATE agrees to (section 7.2); None without Session-Expires.

        Raises ParseError where the header cannot be read.
        """
        value = response.first("Session-Expires")
        if value is None:
            return None
        granted = SessionExpires.parse(value)
        refresher = Refresher.REMOTE if granted.refresher == "uas" else Refresher.LOCAL
        return SessionTimer(max(granted.interval_s, MIN_SE_FLOOR_S), refresher, now)


def min_se_of(message: Message) -> int:
    """The Min-SE of a message; 90 where it has none that can be read."""
    value = message.first("Min-SE")
    if value is None:
        return MIN_SE_FLOOR_S
    try:
        return max(MIN_SE_FLOOR_S, _seconds(value.partition(";")[0].strip()))
    except ParseError:
        return MIN_SE_FLOOR_S


def _seconds(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise ParseError("delta-seconds are no number")
    return int(text)
