"""Which refusals cross, and as what; where a hunt goes on."""

from __future__ import annotations

import pytest

from pbx_signaling.border.explanation import explanation_of
from pbx_signaling.calls import refusal
from pbx_sip.message.headers import Headers
from pbx_sip.message.message import Response

OUTSIDE = [
    *((status, 480) for status in (300, 301, 302, 305, 380, 421, 480, 503)),
    *((status, 403) for status in (401, 403, 407, 494)),
    *((status, 500) for status in (405, 420, 423, 469, 489, 500)),
    *((status, 488) for status in (415, 488)),
    *((status, status) for status in (404, 406, 410, 413, 422, 484, 486, 487, 501, 513, 600, 603, 604, 606, 607, 608)),
]
OF_OFFER = [
    *((status, 488) for status in (302, 405, 415, 420, 421, 422, 423, 488)),
    *((status, 403) for status in (401, 407, 494)),
    (503, 500),
    *((status, status) for status in (100, 180, 200, 403, 404, 408, 481, 491, 500, 603, 606)),
]
OF_OTHERS = [
    *((status, 500) for status in (302, 420, 421, 422, 423, 489, 503)),
    *((status, 403) for status in (401, 407)),
    *((status, status) for status in (200, 202, 405, 413, 469, 481, 488)),
    (415, 488),
]


@pytest.mark.parametrize(("status", "expected"), OUTSIDE)
def test_outside_of_calls(status: int, expected: int) -> None:
    assert refusal.outside(status) == expected


@pytest.mark.parametrize(("status", "expected"), OF_OFFER)
def test_of_an_offer_inside_a_call(status: int, expected: int) -> None:
    assert refusal.inside(status, is_offer=True) == expected


@pytest.mark.parametrize(("status", "expected"), OF_OTHERS)
def test_of_other_requests_inside_a_call(status: int, expected: int) -> None:
    assert refusal.inside(status, is_offer=False) == expected


@pytest.mark.parametrize("needs", [401, 407, 415, 420, 421, 423, 489, 494, *range(300, 400)])
def test_nothing_crosses_that_needs_a_header_field_it_has_not(needs: int) -> None:
    told = {refusal.outside(needs), refusal.inside(needs, is_offer=True), refusal.inside(needs, is_offer=False)}
    assert told <= {403, 480, 488, 500}


def test_a_415_that_says_what_is_accepted_crosses_whole() -> None:
    items = [("Accept", "text/plain"), ("Accept-Language", "de"), ("Accept-Encoding", "x" * 600), ("Allow", "INVITE")]
    explanation = explanation_of(Response(415, "X", Headers(items)))
    assert explanation == (("Accept", "text/plain"), ("Accept-Language", "de"))
    assert refusal.outside(415, explanation) == 415
    assert refusal.inside(415, is_offer=False, explanation=explanation) == 415
    assert explanation_of(Response(488, "X", Headers(items))) == ()


@pytest.mark.parametrize(
    ("status", "local", "goes_on"),
    [
        *((status, False, True) for status in (408, 430, 503)),
        *((status, True, True) for status in (408, 503)),
        *((status, False, False) for status in (480, 486, 500, 603)),
    ],
)
def test_where_a_hunt_goes_on(status: int, local: bool, goes_on: bool) -> None:
    assert refusal.tries_next(status, local=local) is goes_on
