"""Linphone, an independent stack, over UDP, TCP, TLS: register, call, hold, resume, digits; with baresip as well."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.baresip import Baresip, Line
from support.linphone import Linphone
from support.product import DOMAIN, installed

if TYPE_CHECKING:
    from support.pair import Pair
    from support.product import Product

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(not installed("linphonec"), reason="not run: linphonec is missing (Debian linphone-cli)"),
]


def phone(product: Product, user: str, kind: str) -> Linphone:
    return Linphone(product.server(kind), product.credentials(user), DOMAIN, kind)


@pytest.mark.parametrize("kinds", [("udp", "udp"), ("tls", "tcp"), ("tcp", "tls"), ("udp", "tls")], ids="-".join)
def test_two_linphones_call_hold_resume_and_dial(product: Product, pair: Pair, kinds: tuple[str, str]) -> None:
    with phone(product, pair.caller, kinds[0]) as caller, phone(product, pair.callee, kinds[1]) as callee:
        pair.wait_registered(pair.caller)
        pair.wait_registered(pair.callee)
        caller.command(f"call sip:{pair.callee}@{DOMAIN}")
        callee.wait_for(rf"incoming call from .*sip:{pair.caller}@")
        caller.wait_for("ringing")
        callee.command("answer")
        caller.wait_for("Media streams established")
        callee.wait_for("Media streams established")
        caller.command("pause")
        callee.wait_for("has been paused by")
        caller.wait_for("is now paused")
        caller.command("resume")
        callee.wait_for("Media streams established")
        caller.wait_for("Media streams established")
        caller.command("5")
        callee.wait_for("Receiving tone 5 from")
        callee.command("terminate")
        caller.wait_for("ended")
    legs = pair.cdr(outcome="answered", hung_up_by="callee")["legs"]
    assert [leg["transport"] for leg in legs] == list(kinds)
    pair.released()


def test_linphone_over_tls_calls_baresip_over_tcp(product: Product, pair: Pair) -> None:
    line = Line(product.sip, product.credentials(pair.callee), DOMAIN, 1000.0, transport="tcp")
    with phone(product, pair.caller, "tls") as caller, Baresip(line) as callee:
        pair.wait_registered(pair.caller)
        pair.wait_registered(pair.callee)
        caller.command(f"call sip:{pair.callee}@{DOMAIN}")
        callee.wait_for("CALL_INCOMING")
        callee.command("accept")
        caller.wait_for("Media streams established")
        callee.command("hold")
        caller.wait_for("has been paused by")
        callee.command("resume")
        caller.wait_for("Media streams established")
        caller.command("7")
        assert callee.wait_for("CALL_DTMF_START")["param"] == "7"
        caller.command("terminate")
        callee.wait_for("CALL_CLOSED")
    legs = pair.cdr(outcome="answered", hung_up_by="caller")["legs"]
    assert [leg["transport"] for leg in legs] == ["tls", "tcp"]
    pair.released()
