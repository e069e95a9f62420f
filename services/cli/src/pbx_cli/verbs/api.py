"""The HTTP API seen from the command line: requests, pages, and errors as sentences."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final

import httpx

from pbx_cli.errors import CliError

TIMEOUT_S = 15.0
PAGE_MAX = 1000
"""Items of a page: the most that the API gives."""
PAGES_MAX = 100_000
"""A server whose cursor never ends must not keep a script for ever."""
Query = Mapping[str, str | int | Sequence[str] | None]


class Api:
    """A client of one API; a context manager."""

    def __init__(self, base: str, transport: httpx.BaseTransport | None = None) -> None:
        """`transport` is for tests."""
        token = os.environ.get("PBX_API_TOKEN")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.base = base
        self._client = httpx.Client(base_url=base, timeout=TIMEOUT_S, headers=headers, transport=transport)

    def __enter__(self) -> Api:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def get(self, path: str, query: Query | None = None) -> Any:
        """The JSON of a GET. Raises CliError."""
        return self._request("GET", path, query=query)

    def post(self, path: str, body: object = None) -> Any:
        """The JSON of a POST, None where there is none. Raises CliError."""
        return self._request("POST", path, body=body)

    def patch(self, path: str, body: object) -> Any:
        """The JSON of a PATCH. Raises CliError."""
        return self._request("PATCH", path, body=body)

    def delete(self, path: str, query: Query | None = None) -> Any:
        """The JSON of a DELETE, None where there is none. Raises CliError."""
        return self._request("DELETE", path, query=query)

    def whole(self, path: str) -> list[dict[str, Any]]:
        """The items of a list that has no pages. Raises CliError."""
        items: list[dict[str, Any]] = self.get(path)["items"]
        return items

    def items(self, path: str, query: Query | None = None, *, limit: int | None = None) -> Iterator[dict[str, Any]]:
        """All items of a list, page after page, at most `limit`."""
        page_size = PAGE_MAX if limit is None else min(limit, PAGE_MAX)
        wanted, cursor, left = dict(query or {}) | {"limit": page_size}, None, limit
        for _ in range(PAGES_MAX):
            page = self.get(path, wanted | {"cursor": cursor})
            if page.get("unreachable") and cursor is None:
                silent = ", ".join(page["unreachable"])
                sys.stderr.write(f"not complete, these do not answer: {silent}\n")
            for item in page["items"]:
                if left == 0:
                    return
                left = None if left is None else left - 1
                yield item
            cursor = page.get("next")
            if not cursor or left == 0:
                return

    def pages(self, path: str, query: Query, cursor: str | None) -> Iterator[tuple[list[dict[str, Any]], str | None]]:
        """The pages of a list from `cursor` on, each with the cursor of the next. Raises CliError."""
        wanted = {"limit": PAGE_MAX, **query}
        for _ in range(PAGES_MAX):
            page = self.get(path, {**wanted, "cursor": cursor})
            cursor = page.get("next")
            yield page["items"], cursor
            if not cursor:
                return

    def stream(self, path: str, query: Query | None = None) -> Iterator[str]:
        """The lines of a response that does not end. Raises CliError."""
        patient = httpx.Timeout(TIMEOUT_S, read=None)
        try:
            with self._client.stream("GET", path, params=_given(query), timeout=patient) as response:
                if response.is_error:
                    response.read()
                    raise CliError(_explain(response))
                yield from response.iter_lines()
        except httpx.HTTPError as error:
            raise CliError(self._unreachable(error)) from None

    def _request(self, method: str, path: str, *, query: Query | None = None, body: object = None) -> Any:
        try:
            response = self._client.request(method, path, params=_given(query), json=body)
        except httpx.HTTPError as error:
            raise CliError(self._unreachable(error)) from None
        if response.is_error:
            raise CliError(_explain(response))
        if not response.content:
            return None
        try:
            return response.json()
        except ValueError:
            raise CliError(f"{self.base} does not speak the API of sip-pbx: check --http") from None

    def _unreachable(self, error: Exception) -> str:
        return f"cannot reach the API at {self.base}: {reason_of(error)}"


_REASONS: Final = (
    (
        "CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate has expired",
        "its certificate has expired: renew it there (`openssl s_client` shows its dates)",
    ),
    ("certificate verify failed: Hostname mismatch", "its certificate is of another name: use the name that it has"),
    ("CERTIFICATE_VERIFY_FAILED", "its certificate is signed by nobody known here: name the CA with SSL_CERT_FILE"),
    ("WRONG_VERSION_NUMBER", "it speaks no TLS there: use http://"),
    ("Connection refused", "it refuses: nothing listens there. Is `sip-pbx up` running? Else name it with --http"),
    ("Name or service not known", "there is no such host: mend --http (or PBX_API), or DNS"),
    ("No address associated", "there is no such host: mend --http (or PBX_API), or DNS"),
    ("Network is unreachable", "this machine has no way there: is that address of a family that it has no route for?"),
    ("No route to host", "this machine has no way there: a firewall, or a machine that is down"),
    ("Cannot assign requested address", "this machine has no way there: it has no address of that family (IPv6?)"),
    ("Server disconnected", "it hangs up without an answer: another protocol, or it is just stopping"),
    ("UnsupportedProtocol", "--http takes http:// or https://"),
)
"""What the libraries say, and what that means to people; the first that fits counts."""


def reason_of(error: Exception) -> str:
    """Why the API was not reached, and what mends it."""
    text = f"{type(error).__name__}: {error}"
    for words, reason in _REASONS:
        if words in text:
            return reason
    if isinstance(error, httpx.TimeoutException):
        return f"no answer within {TIMEOUT_S:g} s: a firewall, or it is overloaded (`sip-pbx status`)"
    return f"{str(error) or type(error).__name__}. Is `sip-pbx up` running? Else name it with --http"


def _given(query: Query | None) -> dict[str, Any]:
    return {key: value for key, value in (query or {}).items() if value is not None}


def _explain(response: httpx.Response) -> str:
    """problem+json (RFC 9457) as one line; the status where the answer is something else."""
    try:
        problem = response.json()
        text = problem.get("detail") or problem.get("title")
    except (ValueError, AttributeError):
        text = None
    text = text if isinstance(text, str) else response.text[:200]
    if response.status_code in (401, 403):
        return f"not allowed ({response.status_code}): {text}; set PBX_API_TOKEN"
    if response.status_code == 422:
        return f"the API refuses this: {text}"
    if response.status_code == 429:
        return f"too many requests: {text}"
    return f"the API answered {response.status_code}: {text or response.reason_phrase}"
