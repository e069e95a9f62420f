"""Caller identity: what is read of a request, what each callee's peer is told, and who is trusted."""

from __future__ import annotations

import pytest

from pbx_signaling.border.asserted import ANONYMOUS, claim_of, insists_in_vain, present, privacy_of
from pbx_signaling.border.trust import Trust
from pbx_signaling.settings import SignalingSettings
from pbx_sip.message.headers import Headers
from pbx_sip.message.message import Request

OWN = '"Al \\"x\\"" <sip:1004@pbx.local>'


def request(*items: tuple[str, str]) -> Request:
    return Request("INVITE", "sip:1008@pbx.local", Headers(items))


def told(*items: tuple[str, str], sender: bool, peer: bool, proved: bool = True, host: str = "pbx.local") -> list[str]:
    """From, P-Asserted-Identity and Privacy as a callee's peer gets them."""
    claim = claim_of(request(*items), host, trusted=sender)
    seen = present(claim, "1004", 'Al "x"', "pbx.local", proved=proved, trusted=peer)
    return [seen.from_value, *(f"{name}: {value}" for name, value in seen.headers)]


BOSS = ("P-Asserted-Identity", '"Boss" <sip:boss@gw.example;x=1>, <tel:+49-30-1>')


@pytest.mark.parametrize(
    ("items", "sender", "peer", "expected"),
    [
        ((), False, False, [OWN]),
        ((), False, True, [OWN, f"P-Asserted-Identity: {OWN}"]),
        ((BOSS,), False, False, [OWN]),
        ((BOSS,), False, True, [OWN, f"P-Asserted-Identity: {OWN}"]),
        ((("P-Preferred-Identity", "<sip:boss@pbx.local>"),), False, True, [OWN, f"P-Asserted-Identity: {OWN}"]),
        ((BOSS,), True, False, ['"Boss" <sip:boss@pbx.local>']),
        (
            (BOSS,),
            True,
            True,
            [
                '"Boss" <sip:boss@pbx.local>',
                'P-Asserted-Identity: "Boss" <sip:boss@gw.example;x=1>',
                "P-Asserted-Identity: <tel:+49301>",
            ],
        ),
        ((("P-Asserted-Identity", "tel:+49(30)1"),), True, False, ["<sip:+49301@pbx.local>"]),
        ((("Privacy", "id"),), False, False, [ANONYMOUS]),
        ((("Privacy", "id"),), False, True, [ANONYMOUS, f"P-Asserted-Identity: {OWN}", "Privacy: id"]),
        ((BOSS, ("Privacy", "id")), True, False, [ANONYMOUS]),
        ((("Privacy", "user;critical"),), False, False, [ANONYMOUS]),
        ((("Privacy", "header"),), False, False, [OWN]),
        ((("Privacy", "none"),), False, True, [OWN, f"P-Asserted-Identity: {OWN}", "Privacy: none"]),
    ],
)
def test_what_the_callee_is_told(items: tuple[tuple[str, str], ...], sender: bool, peer: bool, expected: list[str]):
    assert told(*items, sender=sender, peer=peer) == expected


def test_an_anonymous_from_wants_privacy_even_without_saying_so():
    assert told(sender=False, peer=True, host="anonymous.invalid") == [
        ANONYMOUS,
        f"P-Asserted-Identity: {OWN}",
        "Privacy: id",
    ]


def test_nobody_is_asserted_who_proved_nothing():
    assert told(sender=False, peer=True, proved=False) == [OWN]


@pytest.mark.parametrize(
    "value",
    ["<http://x/>", "<sip:gw.example>", "<sip:boss@gw", "tel:", "tel:+49;ext=1x<", "<sip:a b@gw>", '"', "<tel:drop>"],
)
def test_an_identity_that_cannot_be_read_is_none(value: str):
    seen = told(("P-Asserted-Identity", value), sender=True, peer=True)
    assert seen in ([OWN, f"P-Asserted-Identity: {OWN}"], ["<sip:+49@pbx.local>", "P-Asserted-Identity: <tel:+49>"])


@pytest.mark.parametrize(
    ("values", "kinds", "in_vain"),
    [
        (("id",), ("id",), False),
        (("ID; Critical",), ("id", "critical"), False),
        (("user;x", "critical"), ("user", "x", "critical"), True),
        (("x",), ("x",), False),
        (("none", "id"), ("id",), False),
        ((";;, <",), (), False),
        ((), (), False),
    ],
)
def test_kinds_of_privacy(values: tuple[str, ...], kinds: tuple[str, ...], in_vain: bool):
    found = privacy_of(request(*(("Privacy", value) for value in values)))
    assert found == kinds
    assert insists_in_vain(found) == in_vain


def test_privacy_of_kind_user_hides_what_people_wrote():
    carried = (("Subject", "Lunch"), ("Priority", "urgent"))
    for value, left in (("user", carried[1:]), ("id", carried)):
        assert claim_of(request(("Privacy", value)), "pbx.local", trusted=False).shown(carried) == left


def test_trusted_networks():
    trust = Trust(("192.0.2.0/28", "2001:db8::/32", "198.51.100.7"))
    hosts = ("192.0.2.15", "192.0.2.16", "2001:db8::1", "2001:db9::1", "::ffff:192.0.2.1", "198.51.100.7", "pbx", "")
    for _ in range(2):
        assert [trust.covers(host) for host in hosts] == [True, False, True, False, True, True, False, False]
    assert not Trust().covers("192.0.2.1")


def test_a_network_that_cannot_be_read():
    with pytest.raises(ValueError, match=r"PBX_SIP_TRUSTED.*office"):
        SignalingSettings(authenticate=False, advertise=("192.0.2.1",), sip_trusted=("office",))


def test_an_account_with_odd_characters_is_escaped_again() -> None:
    claim = claim_of(request(), "pbx.local", trusted=False)
    seen = present(claim, "al\r\nX: y>;<", "", "pbx.local", proved=False, trusted=False)
    assert seen.from_value == "<sip:al%0D%0AX%3A%20y%3E;%3C@pbx.local>"
    assert present(claim, "+49-30;x=1&y", "", "pbx.local", proved=False, trusted=False).from_value == (
        "<sip:+49-30;x=1&y@pbx.local>"
    )
