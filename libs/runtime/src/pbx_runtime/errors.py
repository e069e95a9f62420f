"""The errors that cross a service's border, and the one way to translate into them.

Adapters wrap foreign calls in `map_errors({low: high})`; domain code sees only `ServiceError` and its kinds.
The gRPC server turns them into status codes, the gRPC channel turns status codes back into them.

    ServiceError
      InvalidArgument     the caller's mistake
      NotFound            no such thing
      AlreadyExists       it is there already
      FailedPrecondition  not in this state
      PermissionDenied    not allowed
      ResourceExhausted   a named limit was reached
      Unavailable         the peer is out of reach; a retry may help
        DeadlineExceeded  no answer in time; the outcome is unknown
      Internal            a bug, here or there
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping


class ServiceError(Exception):
    """An error with a meaning for the caller; `detail` is for a log line or a response."""

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail or type(self).__name__)
        self.detail = detail or type(self).__name__


class InvalidArgument(ServiceError):
    """The request can never succeed as it stands."""


class NotFound(ServiceError):
    """What was asked for does not exist."""


class AlreadyExists(ServiceError):
    """What was to be made exists."""


class FailedPrecondition(ServiceError):
    """The request does not fit the present state."""


class PermissionDenied(ServiceError):
    """The caller may not do this."""


class ResourceExhausted(ServiceError):
    """A named limit was reached; a later try may succeed."""


class Unavailable(ServiceError):
    """The other side is out of reach; nothing may be assumed about what it did."""


class DeadlineExceeded(Unavailable):
    """No answer in time; the outcome is unknown."""


class Internal(ServiceError):
    """A bug, here or at the peer."""


@contextlib.contextmanager
def map_errors(table: Mapping[type[BaseException], type[ServiceError]]) -> Iterator[None]:
    """Raise the error that `table` names for the one raised inside; the first matching class wins.

    An error that no key matches passes as it is. Raises whatever the table names, with the cause kept.
    """
    try:
        yield
    except tuple(table) as low:
        for kind, high in table.items():
            if isinstance(low, kind):
                raise high(f"{type(low).__name__}: {low}") from low
        raise
