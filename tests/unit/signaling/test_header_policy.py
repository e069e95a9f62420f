"""What crosses from one leg to the other: the defaults, rules, rewriting, and what is not for rules."""

from __future__ import annotations

import pytest

from pbx_signaling.border.headers import CARRIED_MAX, OWNED, Action, HeaderPolicy, rewritten
from pbx_signaling.settings import SignalingSettings
from pbx_sip.message.headers import NAMES, Headers
from pbx_sip.message.message import Request


def carried(policy: HeaderPolicy, *items: tuple[str, str]) -> list[tuple[str, str]]:
    return list(policy.carried(Request("INVITE", "sip:1008@pbx.local", Headers(items)), "pbx.local"))


def test_by_default_what_people_read_passes_and_what_names_machines_does_not():
    policy = HeaderPolicy()
    passing = [("Subject", "Lunch"), ("Priority", "urgent"), ("Accept-Language", "de")]
    hidden = [
        ("Via", "SIP/2.0/UDP 10.0.0.1"),
        ("Contact", "<sip:a@10.0.0.1>"),
        ("Call-Info", "<http://10.0.0.1/me.png>;purpose=icon"),
        ("Organization", "Example"),
        ("History-Info", "<sip:a@10.0.0.1>;index=1"),
        ("Diversion", "<sip:a@10.0.0.1>;reason=no-answer"),
        ("X-Server", "10.0.0.1"),
        ("P-Asserted-Identity", "<sip:ceo@example.org>"),
    ]
    assert carried(policy, *hidden, *passing) == passing


def test_every_known_header_has_an_action_and_no_owned_one_crosses():
    policy = HeaderPolicy(["*=pass"])
    for name in NAMES:
        assert (policy.action(name) is Action.STRIP) == (name.lower() in OWNED), name


def test_a_name_comes_before_a_prefix_and_a_longer_prefix_before_a_shorter():
    policy = HeaderPolicy(["*=strip", "x-*=pass", "X-Secret-*=strip", "X-Secret-Not=pass", "subject=strip"])
    names = ("X-Case", "x-case", "X-SECRET-A", "x-secret-not", "Subject", "Y-Case")
    assert [policy.action(name) is Action.PASS for name in names] == [True, True, False, True, False, False]


@pytest.mark.parametrize(
    "rule", ["Via=pass", "v=pass", "from=rewrite", "Reason=strip", "Subject", "Subject=keep", "=pass", "A b=pass", "X-"]
)
def test_rules_that_make_no_sense(rule: str):
    with pytest.raises(ValueError, match="="):
        HeaderPolicy([rule])


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("Reply-To", '"Bob" <sip:bob@10.1.1.1:5070;transport=tcp>;x=1', '"Bob" <sip:bob@pbx.local>;x=1'),
        ("Reply-To", "sip:bob@10.1.1.1", "<sip:bob@pbx.local>"),
        ("Reply-To", "<sips:bob@10.1.1.1?Subject=x>", "<sips:bob@pbx.local>"),
        ("Reply-To", "<sip:10.1.1.1>", ""),
        ("Reply-To", "<tel:+4930123>", "<tel:+4930123>"),
        ("Reply-To", "<http://10.1.1.1/>", ""),
        ("Reply-To", "<sip:bob@10.1.1.1", ""),
        ("Alert-Info", "<http://10.1.1.1/a.wav>, <urn:alert:source:internal>", "<urn:alert:source:internal>"),
        (
            "Alert-Info",
            "<http://10.1.1.1>;info=alert-autoanswer;delay=0",
            "<http://pbx.local>;info=alert-autoanswer;delay=0",
        ),
        ("Alert-Info", "<http://10.1.1.1/Bellcore-dr3>", "<http://pbx.local/Bellcore-dr3>"),
        ("Alert-Info", "<https://10.1.1.1:8/a/b/ring>;info=ring1", "<https://pbx.local>;info=ring1"),
        ("Alert-Info", "<http://10.1.1.1/>", ""),
        ("Alert-Info", "<sip:10.1.1.1:5070>;answer-after=0", "<sip:pbx.local>;answer-after=0"),
        ("Alert-Info", "<sip:10.1.1.1>", ""),
        ("Alert-Info", "<sip:door@10.1.1.1>;x=10.1.1.1;info=ring2", "<sip:door@pbx.local>;info=ring2"),
        ("Alert-Info", "Auto Answer", "Auto Answer"),
        ("Alert-Info", ";info=alert-autoanswer", ";info=alert-autoanswer"),
        ("Alert-Info", "info=intercom, http://10.1.1.1/x", "info=intercom"),
        ("Alert-Info", '<http://10.1.1.1>;info="<10.1.1.1>";x="a<b"', '<http://pbx.local>;x="a<b"'),
        ("Call-Info", "<sip:10.1.1.1>;answer-after=0", "<sip:pbx.local>;answer-after=0"),
        (
            "Call-Info",
            "<http://10.1.1.1/me.png>;purpose=icon, <sip:x>;answer-after=5",
            "<sip:pbx.local>;answer-after=5",
        ),
        ("Call-Info", "<http://10.1.1.1/card>;Purpose=CARD", ""),
        ("Call-Info", "<cid:1@10.1.1.1>;answer-after=0", ""),
        ("Diversion", "<sip:1@10.1.1.1>;reason=busy;host=10.1.1.1", "<sip:1@pbx.local>;reason=busy"),
        ("Warning", '307 10.1.1.1:5060 "no, not understood", 399 x "y"', '307 pbx "no, not understood", 399 pbx "y"'),
        ("Warning", "garbage", ""),
    ],
)
def test_rewriting_names_no_host_of_the_peer(name: str, value: str, expected: str):
    assert rewritten(name, value, "pbx.local") == expected


def test_what_crosses_is_bounded():
    policy = HeaderPolicy(["X-*=pass"])
    assert len(carried(policy, *((f"X-{number}", "1") for number in range(100)))) == CARRIED_MAX
    assert carried(policy, ("X-A", "1"), ("X-B", "y" * 9000)) == [("X-A", "1")]


def test_unknown_names_do_not_fill_the_memory():
    policy = HeaderPolicy(["X-*=pass"])
    for number in range(5000):
        assert policy.action(f"X-{number}") is Action.PASS
    assert len(policy._learned) < 1000


def test_a_process_does_not_start_with_a_rule_that_it_cannot_keep():
    with pytest.raises(ValueError, match=r"PBX_SIP_HEADERS.*belongs to the legs"):
        SignalingSettings(authenticate=False, advertise=("192.0.2.1",), sip_headers=("Via=pass",))
