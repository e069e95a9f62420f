"""PJSIP by pjsua2, over UDP, TCP and TLS: register, call, hold, resume, digits, hang up; with baresip as well."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.baresip import Baresip, Line
from support.product import DOMAIN
from support.script_phone import ScriptPhone, pjsua, pjsua_missing

if TYPE_CHECKING:
    from support.pair import Pair
    from support.product import Product

pytestmark = pytest.mark.interop


@pytest.fixture(autouse=True)
def _installed() -> None:
    reason = pjsua_missing()
    if reason:
        pytest.skip(reason)


def phone(product: Product, user: str, kind: str = "udp") -> ScriptPhone:
    made = pjsua(product.server(kind), product.credentials(user), DOMAIN, kind)
    made.wait_for("registered")
    return made


@pytest.mark.parametrize("kinds", [("udp", "udp"), ("tls", "tcp"), ("tcp", "udp")], ids="-".join)
def test_two_of_them_call_hold_resume_and_dial(product: Product, pair: Pair, kinds: tuple[str, str]) -> None:
    with phone(product, pair.caller, kinds[0]) as caller, phone(product, pair.callee, kinds[1]) as callee:
        caller.command(f"call sip:{pair.callee}@{DOMAIN}")
        callee.wait_for("incoming")
        caller.wait_for("ringing 180")
        callee.command("answer")
        caller.wait_for("up")
        callee.wait_for("up")
        caller.command("hold")
        callee.wait_for("media held-by-peer")
        caller.wait_for("media held")
        caller.command("resume")
        callee.wait_for("media active")
        caller.wait_for("media active")
        caller.command("digit 5")
        callee.wait_for("digit 5")
        callee.command("hangup")
        caller.wait_for("over 200")
    legs = pair.cdr(outcome="answered", hung_up_by="callee")["legs"]
    assert [leg["transport"] for leg in legs] == list(kinds)
    pair.released()


@pytest.mark.parametrize("pjsua_calls", [True, False], ids=["calls", "is called"])
def test_with_baresip(product: Product, pair: Pair, pjsua_calls: bool) -> None:
    theirs, ours = (pair.callee, pair.caller) if pjsua_calls else (pair.caller, pair.callee)
    line = Line(product.sip, product.credentials(theirs), DOMAIN, 800.0)
    with phone(product, ours) as pjsip, Baresip(line) as baresip:
        pair.wait_registered(theirs)
        if pjsua_calls:
            pjsip.command(f"call sip:{theirs}@{DOMAIN}")
            baresip.wait_for("CALL_INCOMING")
            pjsip.wait_for("ringing 180")
            baresip.command("accept")
        else:
            baresip.command("dial", f"sip:{ours}@{DOMAIN}")
            pjsip.wait_for("incoming")
            pjsip.command("answer")
        pjsip.wait_for("up")
        baresip.wait_for("CALL_ESTABLISHED")
        baresip.command("hold")
        pjsip.wait_for("media held-by-peer")
        baresip.command("resume")
        pjsip.wait_for("media active")
        pjsip.command("hangup")
        baresip.wait_for("CALL_CLOSED")
    pair.cdr(outcome="answered", hung_up_by="caller" if pjsua_calls else "callee")
    pair.released()


def test_one_that_gives_up_and_one_that_declines(product: Product, pair: Pair) -> None:
    with phone(product, pair.caller) as caller, phone(product, pair.callee) as callee:
        caller.command(f"call sip:{pair.callee}@{DOMAIN}")
        callee.wait_for("incoming")
        caller.wait_for("ringing 180")
        caller.command("hangup")
        caller.wait_for("over 487")
        callee.wait_for("over 487")
    pair.cdr(outcome="cancelled")
    pair.released()
