"""Why the relay does not do what it was asked; each is a kind of `pbx_runtime.errors`, so unary calls map
alone.

    NoFreeSlotError (ResourceExhausted)   DrainingError (FailedPrecondition)   UnknownCallError (NotFound)
    InvalidStreamError (InvalidArgument)  DatapathRefusedError (Internal)     NotGrantedError (FailedPrecondition)
"""

from __future__ import annotations

from pbx_runtime import errors


class NoFreeSlotError(errors.ResourceExhausted):
    """Every slot is taken, rests or is broken: try another relay."""


class DrainingError(errors.FailedPrecondition):
    """The relay takes no new calls: try another relay."""


class NotGrantedError(errors.FailedPrecondition):
    """The slot is not granted to the instance that puts a call on it: try another one."""


class UnknownCallError(errors.NotFound):
    """No call of that id holds a slot here."""


class InvalidStreamError(errors.InvalidArgument):
    """A stream that cannot be relayed; the text says why."""


class DatapathRefusedError(errors.Internal):
    """The datapath refused; the call is as it was."""
