"""CPU of the SIP core's hot path in this process, without sockets: the `micro` part of `make bench`.

Microseconds of CPU time, the best of several rounds (what disturbs a round only makes it longer). `whole call` is
an INVITE to its BYE through the B2BUA core on a virtual clock, with a registrar and a relay that answer at once:
3 messages in from the caller, 3 from the callee, 7 out; the phones' own parsing and writing is in it.

The last two figures are the core's part of that call alone, its six messages one right after the other, and after a
short sleep each, as they come to a server that is not saturated. Nothing else is different: what the sleep adds is
what this machine takes to get caches, clock and branch predictors of a process back that had to wait.
"""

from __future__ import annotations

import gc
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Final

from pbx_sip.address import Flow, HostPort, Transport
from pbx_sip.message.message import Request, response_to
from pbx_sip.message.parse import parse
from pbx_sip.message.serialize import serialize
from pbx_sip.message.validate import validate_request
from pbx_sip.sdp.model import SessionDescription
from pbx_sip.transaction import events as tx
from pbx_sip.transaction.layer import TransactionLayer
from pbx_sip.transaction.timers import Timers
from support.bench_core import ALICE, BOB, Bench, sdp

ROUNDS: Final = 7
ASLEEP_S: Final = 0.002
"""Between two messages: what a core has at 100 calls/s with six each, and some to spare."""
ASLEEP_CALLS: Final = 200
_FLOW: Final = Flow(Transport.UDP, HostPort("192.0.2.10", 5060), "udp4")
_INVITE: Final = """
    INVITE sip:1008@192.0.2.1 SIP/2.0
    Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK{number};rport
    Max-Forwards: 70
    From: "Alice" <sip:1004@192.0.2.1>;tag=a{number}
    To: <sip:1008@192.0.2.1>
    Call-ID: call-{number}@192.0.2.10
    CSeq: 1 INVITE
    Contact: <sip:1004@192.0.2.10:5060>
    Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE, PRACK
    Supported: replaces, timer
    User-Agent: load
    Content-Type: application/sdp
"""


def _bytes(text: str, body: bytes = b"") -> bytes:
    head = "\r\n".join(line.strip() for line in text.strip().splitlines())
    return f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def _request(data: bytes) -> Request:
    message = parse(data)
    assert isinstance(message, Request)
    return message


def microseconds(act: Callable[[int], object], count: int) -> float:
    """CPU microseconds of one `act`; it is given a number that is new each time."""
    best = float("inf")
    for turn in range(ROUNDS):
        gc.collect()
        started = time.process_time()
        for number in range(turn * count, (turn + 1) * count):
            act(number)
        best = min(best, time.process_time() - started)
    return round(best / count * 1e6, 2)


def transaction(layer: TransactionLayer, invite: bytes, number: int) -> None:
    """A BYE received, answered, and its transaction left to linger."""
    text = invite.replace(b"INVITE", b"BYE").replace(b"z9hG4bK0", b"z9hG4bK%d" % number)
    layer.receive(parse(text), _FLOW, number * 0.01)
    for output in layer.drain():
        if isinstance(output, tx.RequestReceived):
            layer.respond(output.key, response_to(output.request, 200), number * 0.01)
    layer.drain()
    layer.handle_timeout(number * 0.01)


def whole_call(bench: Bench, number: int) -> None:
    """INVITE, 180, 200, ACK, BYE through the core."""
    bench.raw(_bytes(_INVITE.format(number=number), sdp(ALICE.host)), ALICE)
    dialled = next(message for message, to in bench.sent if to == BOB)
    assert isinstance(dialled, Request)
    for status, body in ((180, b""), (200, sdp(BOB.host))):
        response = response_to(dialled, status, "", f"b{number}", body)
        response.headers.append("Contact", "<sip:1008@192.0.2.20:5060>")
        if body:
            response.headers.append("Content-Type", "application/sdp")
        bench.raw(serialize(response), BOB)
    answer = bench.sent[-1][0]
    target = (answer.first("Contact") or "").strip("<>")
    common = f"""
        From: {answer.first("From")}
        To: {answer.first("To")}
        Call-ID: {answer.call_id}
        Max-Forwards: 70"""
    for method, cseq in (("ACK", 1), ("BYE", 2)):
        via = f"Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK{number}{method};rport"
        bench.raw(_bytes(f"{method} {target} SIP/2.0\n{via}\nCSeq: {cseq} {method}{common}"), ALICE)
    hung_up = next(message for message, to in reversed(bench.sent) if to == BOB)
    assert isinstance(hung_up, Request)
    assert hung_up.method == "BYE"
    bench.raw(serialize(response_to(hung_up, 200)), BOB)
    assert not bench.calls, "the call did not end"
    bench.sent.clear()
    bench.advance(0.01)


def core_part(bench: Bench, numbers: range, asleep_s: float) -> float:
    """Median CPU microseconds that the core takes for a call, when it sleeps before each message."""
    spent, receive = 0.0, bench.raw

    def timed(data: bytes, source: HostPort) -> None:
        nonlocal spent
        if asleep_s:
            time.sleep(asleep_s)
        started = time.process_time()
        receive(data, source)
        spent += time.process_time() - started

    bench.raw = timed  # type: ignore[method-assign]
    try:
        calls = []
        for number in numbers:
            spent = 0.0
            whole_call(bench, number)
            calls.append(spent)
    finally:
        bench.raw = receive  # type: ignore[method-assign]
    return round(statistics.median(calls) * 1e6, 2)


def measure() -> dict[str, float]:
    """All figures by name, microseconds of CPU."""
    invite = _bytes(_INVITE.format(number=0), sdp(ALICE.host))
    message = _request(invite)
    description = sdp(ALICE.host)
    layer, bench = TransactionLayer(Timers(), 1_000_000), Bench()
    fresh = ROUNDS * 200
    return {
        "parse an INVITE": microseconds(lambda _: parse(invite), 5000),
        "parse and validate it": microseconds(lambda _: validate_request(_request(invite)), 5000),
        "serialise it": microseconds(lambda _: serialize(message), 5000),
        "parse its SDP": microseconds(lambda _: SessionDescription.parse(description), 2000),
        "server transaction of a BYE, its parsing included": microseconds(
            lambda number: transaction(layer, invite, number), 1000
        ),
        "whole call in memory": microseconds(lambda number: whole_call(bench, number), 200),
        "  the core's part of it": core_part(bench, range(fresh, fresh + ASLEEP_CALLS), 0.0),
        f"  the same, {ASLEEP_S * 1000:g} ms asleep before each message": core_part(
            bench, range(fresh + ASLEEP_CALLS, fresh + 2 * ASLEEP_CALLS), ASLEEP_S
        ),
    }


def table(figures: dict[str, float]) -> str:
    """One line for a figure."""
    return "\n".join(f"{name:56s}{value:10.2f} us" for name, value in figures.items())


if __name__ == "__main__":
    figures = measure()
    print(table(figures))
    if "--json" in sys.argv:
        print(json.dumps(figures))
