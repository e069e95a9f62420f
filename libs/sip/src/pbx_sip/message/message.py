"""Requests and responses.

The start line is typed; headers are text in wire order; the body is bytes. Text is UTF-8 read with
`surrogateescape`, so that any bytes of a peer survive a round trip.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from pbx_sip.message.headers import Headers, first_values, split_commas, split_semicolons
from pbx_sip.message.status import reason_of

METHODS: Final = {
    method: method
    for method in (
        *("INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "REGISTER", "PRACK", "UPDATE", "INFO", "MESSAGE"),
        *("REFER", "SUBSCRIBE", "NOTIFY", "PUBLISH"),
    )
}
"""One string for each known method: keys of transactions linger for 32 s, and need not hold one each."""

BRANCH_COOKIE: Final = "z9hG4bK"
"""Marks a branch as unique in the sense of RFC 3261 (section 8.1.1.7)."""


class Message:
    """What requests and responses share."""

    __slots__ = ("body", "headers")

    def __init__(self, headers: Headers, body: bytes = b"") -> None:
        self.headers = headers
        self.body = body

    def first(self, name: str) -> str | None:
        """The first value of a header, by canonical name, or None."""
        headers = self.headers
        value = headers.index.get(name)
        return headers.first(name) if value is None else value

    @property
    def call_id(self) -> str:
        """The Call-ID; empty where missing (`validate` reports that)."""
        return self.headers.index.get("Call-ID", "")

    # What follows is asked for many times a message: it is read once, and kept beside the lines that it was read from.

    @property
    def from_tag(self) -> str:
        """The tag of From; empty where there is none (RFC 2543 peers)."""
        memo = self.headers.memo
        tag: str | None = memo.get("from_tag")
        if tag is None:
            tag = memo["from_tag"] = tag_of(self.headers.index.get("From", ""))
        return tag

    @property
    def to_tag(self) -> str:
        """The tag of To; empty outside of a dialog."""
        memo = self.headers.memo
        tag: str | None = memo.get("to_tag")
        if tag is None:
            tag = memo["to_tag"] = tag_of(self.headers.index.get("To", ""))
        return tag

    @property
    def cseq(self) -> tuple[int, str]:
        """Number and method of CSeq; -1 and nothing where it is missing or none."""
        memo = self.headers.memo
        cseq: tuple[int, str] | None = memo.get("cseq")
        if cseq is None:
            cseq = memo["cseq"] = split_cseq(self.headers.index.get("CSeq", ""))
        return cseq

    @property
    def cseq_number(self) -> int:
        """The number of CSeq; -1 where it is missing or none."""
        cseq: tuple[int, str] = self.headers.memo.get("cseq") or self.cseq
        return cseq[0]

    @property
    def cseq_method(self) -> str:
        """The method of CSeq; empty where missing."""
        cseq: tuple[int, str] = self.headers.memo.get("cseq") or self.cseq
        return cseq[1]

    @property
    def top_via(self) -> str:
        """The topmost Via value alone, also where several stand in one line; empty where missing."""
        value = self.headers.index.get("Via", "")
        return value if "," not in value else _first_of(value)

    @property
    def branch(self) -> str:
        """The branch of the topmost Via; empty where there is none."""
        memo = self.headers.memo
        branch: str | None = memo.get("branch")
        if branch is None:
            via = self.headers.index.get("Via", "")
            via = via if "," not in via else _first_of(via)
            _, found, rest = via.partition(";branch=") if '"' not in via else (via, "", "")
            branch = memo["branch"] = rest.partition(";")[0].rstrip() if found else parameter_of(via, "branch")
        return branch

    @property
    def content_type(self) -> str:
        """The media type of the body in lower case without parameters; empty where not given."""
        return (self.headers.first("Content-Type") or "").partition(";")[0].strip().lower()


class Request(Message):
    """A SIP request."""

    __slots__ = ("method", "uri")

    def __init__(self, method: str, uri: str, headers: Headers, body: bytes = b"") -> None:
        self.headers = headers
        self.body = body
        self.method = method
        self.uri = uri

    def __repr__(self) -> str:
        """Method, target and transaction."""
        return f"<Request {self.method} {self.uri} cseq={self.cseq_number} branch={self.branch}>"


class Response(Message):
    """A SIP response."""

    __slots__ = ("reason", "status")

    def __init__(self, status: int, reason: str, headers: Headers, body: bytes = b"") -> None:
        self.headers = headers
        self.body = body
        self.status = status
        self.reason = reason

    def __repr__(self) -> str:
        """Status and transaction."""
        return f"<Response {self.status} {self.reason!r} cseq={self.headers.first('CSeq')} branch={self.branch}>"


def response_to(request: Request, status: int, reason: str = "", to_tag: str = "", body: bytes = b"") -> Response:
    """A response with the headers that RFC 3261 section 8.2.6.2 wants copied from its request.

    `to_tag` is added to To where the request has none. An empty `reason` means the standard phrase. The caller
    appends what else the response needs (Contact, Content-Type, ...); Content-Length is written on serialising.
    """
    headers = request.headers
    items = [item for item in headers.items if item[0] in _COPIED]
    copied = Headers.of(items, first_values(items))
    if to_tag and "To" in copied.index and not request.to_tag:
        copied.set_first("To", f"{copied.index['To']};tag={to_tag}")
    if status == 100 and (timestamp := headers.index.get("Timestamp")) is not None:
        copied.append("Timestamp", timestamp)
    return Response(status, reason or reason_of(status), copied, body)


def _first_of(value: str) -> str:
    """The first of several Via values that stand in one line."""
    return value.partition(",")[0].rstrip() if '"' not in value else (split_commas(value) or [""])[0]


def put_to_tag(response: Response, tag: str) -> None:
    """Adds a To-tag where a response has none and must have one: all but 100 (RFC 3261 section 8.2.6.2)."""
    to = response.headers.first("To")
    if response.status > 100 and to is not None and not tag_of(to):
        response.headers.set("To", f"{to};tag={tag}")


_COPIED: Final = frozenset({"Via", "From", "To", "Call-ID", "CSeq"})


@lru_cache(maxsize=1024)
def split_cseq(value: str) -> tuple[int, str]:
    """Number and method of a CSeq value, with any white space between them; the number is -1 where it is none."""
    if "\t" in value or "  " in value:
        value = " ".join(value.split())
    number, _, method = value.partition(" ")
    method = METHODS.get(method, method)
    return int(number) if number.isascii() and number.isdigit() and len(number) <= 10 else -1, method


def tag_of(value: str) -> str:
    """The tag parameter of a From or To value; empty where there is none."""
    _, found, tag = value.rpartition(";tag=")
    if found and not (";" in tag or ">" in tag or '"' in tag):
        return tag.strip()  # the last parameter, as nearly all write it, and outside of any quotation
    if "tag" not in value and "TAG" not in value.upper():
        return ""
    return parameter_of(value, "tag")


def with_tag(value: str, tag: str) -> str:
    """A From or To value with another tag; our own have it last."""
    old = tag_of(value)
    before, found, after = value.rpartition(old) if old else (value, "", "")
    return f"{before}{tag}{after}" if found else f"{value};tag={tag}"


def parameter_of(value: str, name: str) -> str:
    """A parameter behind the last ">" (or of a value without brackets); empty where it is missing.

    Good for tag, branch, expires and their kind, whose values are tokens; `header` reads quoted ones. A parameter that
    stands inside of a quoted-string is none, nor does a bracket there end the URI.
    """
    rest = value[value.rfind(">") + 1 :]
    # No quotation is open behind the last bracket where none is closed there: nearly always.
    parts = rest.split(";") if '"' not in rest else split_semicolons(value)
    for part in parts[1:]:
        key, _, content = part.partition("=")
        if key == name or key.strip().lower() == name:
            return content.strip()
    return ""
