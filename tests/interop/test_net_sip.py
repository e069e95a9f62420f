"""Net::SIP (Perl), an independent stack over UDP: registers with MD5 digest, calls both ways, holds by c=0.0.0.0."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.baresip import Baresip, Line
from support.product import DOMAIN
from support.script_phone import ScriptPhone, net_sip, net_sip_missing

if TYPE_CHECKING:
    from support.pair import Pair
    from support.product import Product

pytestmark = pytest.mark.interop


@pytest.fixture(autouse=True)
def _installed() -> None:
    reason = net_sip_missing()
    if reason:
        pytest.skip(reason)


def phone(product: Product, user: str) -> ScriptPhone:
    made = net_sip(product.server("udp"), product.credentials(user), DOMAIN)
    made.wait_for("registered")
    return made


def test_two_of_them_call_hold_resume_and_hang_up(product: Product, pair: Pair) -> None:
    with phone(product, pair.caller) as caller, phone(product, pair.callee) as callee:
        caller.command(f"call sip:{pair.callee}@{DOMAIN}")
        callee.wait_for("incoming")
        caller.wait_for("up")
        callee.wait_for("up")
        caller.command("hold")
        callee.wait_for(r"changed \S+ (sendonly|inactive)")
        caller.wait_for("held")
        caller.command("resume")
        callee.wait_for(r"changed (?!0\.0\.0\.0)\S+ sendrecv")
        caller.wait_for("resumed")
        callee.command("hangup")
        callee.wait_for("done")
        caller.wait_for("over")
    pair.cdr(outcome="answered", hung_up_by="callee")
    pair.released()


@pytest.mark.parametrize("net_sip_calls", [True, False], ids=["calls", "is called"])
def test_with_baresip(product: Product, pair: Pair, net_sip_calls: bool) -> None:
    theirs, ours = (pair.callee, pair.caller) if net_sip_calls else (pair.caller, pair.callee)
    line = Line(product.sip, product.credentials(theirs), DOMAIN, 700.0)
    with phone(product, ours) as perl, Baresip(line) as baresip:
        pair.wait_registered(theirs)
        if net_sip_calls:
            perl.command(f"call sip:{theirs}@{DOMAIN}")
            baresip.wait_for("CALL_INCOMING")
            perl.wait_for("ringing 180")
            baresip.command("accept")
        else:
            baresip.command("dial", f"sip:{ours}@{DOMAIN}")
            perl.wait_for("incoming")
        perl.wait_for("up")
        baresip.wait_for("CALL_ESTABLISHED")
        baresip.command("hold")
        perl.wait_for(r"changed \S+ sendonly")
        baresip.command("resume")
        perl.wait_for(r"changed \S+ sendrecv")
        perl.command("hangup")
        perl.wait_for("done")
        baresip.wait_for("CALL_CLOSED")
    pair.cdr(outcome="answered", hung_up_by="caller" if net_sip_calls else "callee")
    pair.released()


def test_it_unregisters_and_is_refused_with_a_wrong_password(product: Product, pair: Pair) -> None:
    with phone(product, pair.callee) as perl:
        perl.command("unregister")
        perl.wait_for("gone")
        assert pair.contacts(pair.callee) == []
    wrong = product.credentials(pair.caller).__class__(pair.caller, "wrong")
    with net_sip(product.server("udp"), wrong, DOMAIN) as perl:
        perl.wait_for("refused")
    assert pair.contacts(pair.caller) == []
