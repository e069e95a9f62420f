"""JsSIP, the stack of browsers, over WebSocket and secure WebSocket: register, call, hold, resume, digits, hang up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support import jssip
from support.jssip import JsSip
from support.product import DOMAIN
from support.wire import audio_sdp

if TYPE_CHECKING:
    from support.pair import Pair
    from support.product import Product

pytestmark = pytest.mark.interop


@pytest.fixture(autouse=True)
def _installed() -> None:
    reason = jssip.missing()
    if reason:
        pytest.skip(reason)


def phone(product: Product, user: str, kind: str) -> JsSip:
    host, port = product.server(kind)
    trust = product.data / "tls" / "cert.pem" if kind == "wss" else None
    made = JsSip(f"{kind}://{host}:{port}", product.credentials(user), DOMAIN, trust)
    made.wait_for("registered")
    return made


@pytest.mark.parametrize("kinds", [("ws", "ws"), ("wss", "ws")], ids="-".join)
def test_two_browsers_call_each_other(product: Product, pair: Pair, kinds: tuple[str, str]) -> None:
    with phone(product, pair.caller, kinds[0]) as caller, phone(product, pair.callee, kinds[1]) as callee:
        caller.command("dial", to=pair.callee)
        callee.wait_for("session", originator="remote")
        caller.wait_for("progress")
        callee.command("answer")
        caller.wait_for("confirmed")
        callee.wait_for("confirmed")
        caller.command("hold")
        callee.wait_for("hold", originator="remote")
        caller.wait_for("done")
        caller.command("resume")
        callee.wait_for("unhold", originator="remote")
        caller.wait_for("done")
        caller.command("digit", tone="5")
        callee.wait_for("digit", tone="5")
        callee.command("hangup")
        caller.wait_for("ended", originator="remote")
    legs = pair.cdr(outcome="answered", hung_up_by="callee")["legs"]
    assert [leg["transport"] for leg in legs] == list(kinds)
    pair.released()


def test_a_browser_and_a_phone_on_udp(product: Product, pair: Pair) -> None:
    with phone(product, pair.callee, "wss") as browser, product.phone(pair.caller) as caller:
        dialog = caller.dial(pair.callee, audio_sdp(4200))
        browser.wait_for("session", originator="remote")
        assert caller.expect(180)
        browser.command("answer")
        caller.ack(dialog, caller.expect(200))
        browser.wait_for("confirmed")
        browser.command("digit", tone="7")
        info = caller.expect("INFO")
        assert "Signal=7" in info.body
        caller.reply(info, 200, "OK")
        caller.request(dialog, "BYE")
        assert caller.expect(200)
        browser.wait_for("ended", originator="remote")
    pair.cdr(outcome="answered", hung_up_by="caller")
    pair.released()


def test_a_browser_that_goes_away_is_not_registered_any_more(product: Product, pair: Pair) -> None:
    with phone(product, pair.callee, "ws") as browser, product.phone(pair.caller) as caller:
        browser.process.kill()
        browser.process.wait()
        dialog = caller.dial(pair.callee)
        caller.ack(dialog, caller.expect(480))
    pair.released()
