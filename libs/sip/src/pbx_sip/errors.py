"""Errors of the SIP core.

SipError
  LocalError          we asked for something that SIP does not allow: a bug of ours, logged with its stack
  RemoteError         a peer sent something that SIP does not allow: becomes a response (status_hint)
    ParseError        bytes that are no SIP message, header, URI or SDP
    LimitExceeded     a message or table larger than its named limit
"""

from __future__ import annotations


class SipError(Exception):
    """Root of everything that pbx_sip raises."""


class LocalError(SipError):
    """The caller of this library asked for something that SIP does not allow."""


class RemoteError(SipError):
    """A peer broke a rule; `status_hint` is the SIP status that tells it so."""

    def __init__(self, detail: str, status_hint: int = 400) -> None:
        super().__init__(detail)
        self.status_hint = status_hint


class ParseError(RemoteError):
    """Bytes that do not follow the grammar."""


class LimitExceeded(RemoteError):
    """Input beyond a named limit."""
