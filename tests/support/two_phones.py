"""Two baresip phones call each other through the product, and what must come of it: sound both ways, CDR, webhook;
hold, resume and DTMF over other transports."""

from __future__ import annotations

import time

from support.baresip import Baresip, Line
from support.pair import Pair
from support.webhook_sink import WebhookSink

CALLER_HZ, CALLEE_HZ, NEITHER_HZ = 440.0, 1000.0, 700.0
TALK_S = 3.0


def talk(pair: Pair, ports: tuple[int, int] = (0, 0)) -> None:
    """Register, call, talk, hang up. Raises AssertionError at what did not happen.

    `ports`: their own, the caller's first; 0: any.
    """
    product = pair.product
    with WebhookSink() as sink, Baresip(_line(pair, pair.callee, CALLEE_HZ, port=ports[1])) as callee:
        product.post("/v1/webhooks", {"url": sink.url, "types": ["call.ended"]})
        pair.wait_registered(pair.callee)
        with Baresip(_line(pair, pair.caller, CALLER_HZ, port=ports[0])) as caller:
            pair.wait_registered(pair.caller)
            _call(pair, caller, callee)
            _hears(caller, CALLEE_HZ)
            _hears(callee, CALLER_HZ)
        cdr = pair.cdr(outcome="answered", hung_up_by="caller")
        assert TALK_S * 1000 - 500 < cdr["talk_ms"] < TALK_S * 1000 + 2000, cdr
        delivery = sink.wait_for("call.ended", call_id=cdr["call_id"])
        assert delivery.headers["webhook-signature"].startswith("v1,"), delivery.headers
        trace_id = delivery.event["traceparent"].split("-")[1]
        assert trace_id == cdr["traceparent"].split("-")[1], "one trace for the call and all that is told of it"
    pair.released()


def hold_and_dial(pair: Pair, transports: tuple[str, str]) -> None:
    """Register over these transports, call, hold, resume, send a digit, hang up; the CDR names the transports."""
    called, calling = (
        _line(pair, user, hz, kind)
        for user, hz, kind in zip((pair.callee, pair.caller), (CALLEE_HZ, CALLER_HZ), reversed(transports), strict=True)
    )
    with WebhookSink() as sink, Baresip(called) as callee, Baresip(calling) as caller:
        pair.product.post("/v1/webhooks", {"url": sink.url, "types": ["call.held", "call.resumed"]})
        pair.wait_registered(pair.callee)
        pair.wait_registered(pair.caller)
        caller.command("dial", f"sip:{pair.callee}@{caller.line.domain}")
        callee.wait_for("CALL_INCOMING")
        caller.wait_for("CALL_RINGING")
        callee.command("accept")
        caller.wait_for("CALL_ESTABLISHED")
        caller.command("hold")
        sink.wait_for("call.held", by="caller")
        caller.command("resume")
        sink.wait_for("call.resumed")
        time.sleep(1.0)  # real time passes: this is sound
        caller.command("sndcode", "5")
        heard = callee.wait_for("CALL_DTMF_START")
        assert heard["param"] == "5", heard
        caller.command("hangup")
        callee.wait_for("CALL_CLOSED")
    cdr = pair.cdr(outcome="answered", hung_up_by="caller")
    assert [leg["transport"] for leg in cdr["legs"]] == [kind or "udp" for kind in transports]
    pair.released()


def _call(pair: Pair, caller: Baresip, callee: Baresip) -> None:
    caller.command("dial", f"sip:{pair.callee}@{caller.line.domain}")
    callee.wait_for("CALL_INCOMING")
    caller.wait_for("CALL_RINGING")
    callee.command("accept")
    caller.wait_for("CALL_ESTABLISHED")
    assert pair.caller in [call["caller"] for call in pair.product.calls()]
    time.sleep(TALK_S)  # real time passes: this is sound
    caller.command("hangup")
    callee.wait_for("CALL_CLOSED")
    caller.quit()
    callee.quit()


def _line(pair: Pair, user: str, tone_hz: float, transport: str = "", port: int = 0) -> Line:
    product = pair.product
    trust = product.data / "tls" / "cert.pem" if transport == "tls" else None
    server = product.server(transport or "udp")
    return Line(server, product.credentials(user), "pbx.local", tone_hz, transport=transport, trust=trust, port=port)


def _hears(phone: Baresip, wanted_hz: float) -> None:
    """The other's tone, and nothing of another, in the middle of the call."""
    sound = phone.heard.cut(0.5, TALK_S - 0.5)
    assert sound.duration_s > TALK_S - 1.5, f"{sound.duration_s} s of sound"
    assert sound.share_of(wanted_hz) > 0.9, f"{sound.share_of(wanted_hz):.3f} of the sound is the other's tone"
    assert sound.share_of(NEITHER_HZ) < 0.01
