"""Header fields: the index beside the lines says at all times what a look through the lines would say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbx_sip.message.headers import NAMES, Headers
from pbx_sip.message.message import Request, split_cseq, tag_of

NAME = st.sampled_from(("Via", "From", "To", "CSeq", "Route", "X-Own", "x-own", "X-Other"))
VALUE = st.sampled_from(
    ("", "1 INVITE", "2 BYE", "<sip:a@h>;tag=1", "<sip:a@h>;tag=2", "SIP/2.0/UDP h;branch=z9hG4bK1", "a, b")
)
LINE = st.tuples(NAME, VALUE)
CHANGE = st.one_of(
    st.tuples(st.just("append"), LINE),
    st.tuples(st.just("prepend"), LINE),
    st.tuples(st.just("set"), LINE),
    st.tuples(st.just("set_first"), LINE),
    st.tuples(st.just("extend"), st.tuples(st.lists(LINE, max_size=3))),
    st.tuples(st.just("remove"), st.lists(NAME, min_size=1, max_size=2).map(tuple)),
    st.tuples(st.just("remove_line"), LINE),
)


def same(name: str, asked: str) -> bool:
    """Whether a line has the name that is asked for; unknown ones are compared without regard to case."""
    return name == asked or (asked not in NAMES and name.lower() == asked.lower())


def plainly(lines: list[tuple[str, str]], change: str, given: tuple) -> None:
    """The same change made to a list of lines."""
    at = next((number for number, line in enumerate(lines) if line[0] == given[0]), None)
    match change:
        case "append":
            lines.append(given)
        case "prepend":
            lines.insert(0, given)
        case "extend":
            lines += given[0]
        case "remove":
            lines[:] = [line for line in lines if line[0] not in given]
        case "remove_line":
            lines.remove(given)
        case "set_first":
            assert at is not None
            lines[at] = given
        case "set" if at is None:
            lines.append(given)
        case "set":
            lines[at:] = [given, *(line for line in lines[at + 1 :] if line[0] != given[0])]


def allowed(lines: list[tuple[str, str]], change: str, given: tuple) -> bool:
    """Whether a change may be asked for: what is replaced or dropped must be there."""
    if change == "set_first":
        return any(line[0] == given[0] for line in lines)
    return change != "remove_line" or given in lines


@given(st.lists(LINE, max_size=6), st.lists(st.tuples(CHANGE, st.booleans()), max_size=8))
def test_the_index_and_the_lines_agree_after_every_change(
    lines: list[tuple[str, str]], changes: list[tuple[tuple[str, tuple], bool]]
) -> None:
    request = Request("INVITE", "sip:a@h", Headers(lines))
    for (change, arguments), look in changes:
        if not allowed(lines, change, arguments):
            continue
        getattr(request.headers, change)(*arguments)
        plainly(lines, change, arguments)
        if look:
            check(request, lines)
    check(request, lines)
    assert request.headers == Headers(lines) == request.headers.copy()


def check(request: Request, lines: list[tuple[str, str]]) -> None:
    """All look-ups, and what is remembered of them, against a walk through the lines."""
    headers = request.headers
    assert list(headers) == list(headers.items) == lines
    for name in ("Via", "From", "To", "CSeq", "Route", "X-Own", "x-own", "X-OWN", "Expires", "X-None"):
        # A line with the very spelling comes before those that differ in case.
        exactly = [value for field, value in lines if field == name]
        alike = [value for field, value in lines if same(field, name)]
        assert headers.first(name) == next(iter(exactly or alike), None)
        assert headers.all(name) == alike
        assert (name in headers) == bool(alike)
    assert request.from_tag == tag_of(headers.first("From") or "")
    assert request.to_tag == tag_of(headers.first("To") or "")
    assert request.cseq == split_cseq(headers.first("CSeq") or "")
    branch = (headers.first("Via") or "").partition(",")[0].partition(";branch=")[2]
    assert request.branch == branch


def test_what_was_read_is_read_again_after_a_change() -> None:
    request = Request("BYE", "sip:a@h", Headers([("To", "<sip:a@h>;tag=1"), ("CSeq", "1 BYE")]))
    assert (request.to_tag, request.from_tag, request.cseq_number) == ("1", "", 1)
    request.headers.append("From", "<sip:b@h>;tag=2")
    request.headers.set("To", "<sip:a@h>;tag=3")
    assert (request.to_tag, request.from_tag, request.cseq_number) == ("3", "2", 1)
    request.headers.remove("To", "CSeq")
    assert (request.to_tag, request.from_tag, request.cseq_number) == ("", "2", -1)


def test_a_copy_is_changed_on_its_own() -> None:
    headers = Headers([("Via", "1")])
    assert headers.first("Via") == "1"
    copy = headers.copy()
    copy.set("Via", "2")
    assert (headers.first("Via"), copy.first("Via")) == ("1", "2")


def test_a_line_that_is_not_there_cannot_be_dropped_nor_replaced() -> None:
    headers = Headers([("Via", "1")])
    with pytest.raises(ValueError, match="not in list"):
        headers.remove_line("Via", "2")
    with pytest.raises(KeyError):
        headers.set_first("Route", "<sip:h>")
