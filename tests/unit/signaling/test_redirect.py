"""Where a callee's 3xx points: only to users of our own domain, the best first, none of a list without end."""

from __future__ import annotations

import pytest

from pbx_signaling.border.redirect import CONTACTS_MAX, users_named
from pbx_sip.message.headers import Headers
from pbx_sip.message.message import Response


def named(*contacts: str, status: int = 302) -> tuple[str, ...]:
    response = Response(status, "", Headers([("Contact", value) for value in contacts]))
    return users_named(response, "pbx.local", {"192.0.2.1", "2001:db8::1"}.__contains__)


@pytest.mark.parametrize(
    ("contact", "user"),
    [
        ("<sip:1010@pbx.local>", "1010@pbx.local"),
        ("sip:1010@PBX.local", "1010@pbx.local"),
        ('"Ten, ten" <sips:1010@192.0.2.1:5060;transport=tls>;q=0.5', "1010@pbx.local"),
        ("<sip:1010@[2001:db8::1]>", "1010@pbx.local"),
        ("<sip:%31010@localhost>", "1010@pbx.local"),
        ("<sip:1010@elsewhere.example>", ""),
        ("<sip:1010@192.0.2.2>", ""),
        ("<sip:pbx.local>", ""),
        ("<tel:+15551234>", ""),
        ("<mailto:1010@pbx.local>", ""),
        ("*", ""),
        ("<sip:1010@pbx.local", ""),
        ("", ""),
    ],
)
def test_users_of_our_domain_and_nobody_else(contact: str, user: str) -> None:
    assert named(contact) == ((user,) if user else ())


def test_the_best_first_and_each_once() -> None:
    found = named("<sip:a@pbx.local>;q=0.2, <sip:b@pbx.local>;q=0.9", "<sip:c@pbx.local>", "<sip:b@pbx.local>;q=x")
    assert found == ("c@pbx.local", "b@pbx.local", "a@pbx.local")


def test_a_list_without_end_is_cut() -> None:
    found = named(",".join(f"<sip:{number}@pbx.local>" for number in range(100)))
    assert found == tuple(f"{number}@pbx.local" for number in range(CONTACTS_MAX))


def test_no_other_response_sends_a_call_on() -> None:
    assert named("<sip:1010@pbx.local>", status=485) == ()
