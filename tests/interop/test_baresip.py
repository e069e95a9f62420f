"""Two headless baresip phones through the product: each hears the other's tone, and the CDR and webhook tell of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from support.baresip import Baresip, Line
from support.webhook_sink import WebhookSink

if TYPE_CHECKING:
    from support.pair import Pair

pytestmark = pytest.mark.interop

CALLER_HZ, CALLEE_HZ, NEITHER_HZ = 440.0, 1000.0, 700.0
TALK_S = 3.0


def line(pair: Pair, user: str, tone_hz: float) -> Line:
    return Line(pair.product.sip, pair.product.credentials(user), "pbx.local", tone_hz)


def hears(phone: Baresip, wanted_hz: float) -> None:
    """The other's tone, and nothing of another, in the middle of the call."""
    sound = phone.heard.cut(0.5, TALK_S - 0.5)
    assert sound.duration_s > TALK_S - 1.5, f"{sound.duration_s} s of sound"
    assert sound.share_of(wanted_hz) > 0.9
    assert sound.share_of(NEITHER_HZ) < 0.01


def test_two_phones_hear_each_other(pair: Pair) -> None:
    product = pair.product
    with WebhookSink() as sink, Baresip(line(pair, pair.callee, CALLEE_HZ)) as callee:
        webhook = product.post("/v1/webhooks", {"url": sink.url, "types": ["call.ended"]})
        pair.wait_registered(pair.callee)
        with Baresip(line(pair, pair.caller, CALLER_HZ)) as caller:
            pair.wait_registered(pair.caller)
            caller.command("dial", f"sip:{pair.callee}@pbx.local")
            callee.wait_for("CALL_INCOMING")
            caller.wait_for("CALL_RINGING")
            callee.command("accept")
            caller.wait_for("CALL_ESTABLISHED")
            assert [call["caller"] for call in product.calls() if call["caller"] == pair.caller]
            time.sleep(TALK_S)  # real time passes: this is sound
            caller.command("hangup")
            callee.wait_for("CALL_CLOSED")
            caller.quit()
            callee.quit()
            hears(caller, CALLEE_HZ)
            hears(callee, CALLER_HZ)
        cdr = pair.cdr(outcome="answered", hung_up_by="caller")
        assert TALK_S * 1000 - 500 < cdr["talk_ms"] < TALK_S * 1000 + 2000
        delivery = sink.wait_for("call.ended", call_id=cdr["call_id"])
        assert delivery.headers["webhook-signature"].startswith("v1,")
        assert webhook["id"]
    pair.released()
