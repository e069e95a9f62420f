"""Fine response times: a few calls a second beside the load, timed with the nanosecond clock.

SIPp 3.6 reads the coarse kernel clock in steps of 4 ms, too coarse for delays below 10 ms. The probe is
caller and callee in one process, and tells how long the callee itself took ("own"). It prints JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import itertools
import json
import select
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from support.phone import Dialog, Phone
from support.wire import Credentials, Message, audio_sdp, token

DRAIN_S = 1.5
RING_S = 0.05
HOLD_S = 0.2


@dataclass(slots=True)
class _Call:
    dialog: Dialog
    sent_ns: int = 0
    times_ms: dict[str, float] = field(default_factory=dict)


class Probe:
    """Places calls from one account to another at a fixed rate and takes them."""

    def __init__(self, caller: Phone, callee: Phone) -> None:
        self.caller, self.callee = caller, callee
        self.calls: dict[str, _Call] = {}
        self.own_ms: list[float] = []
        self._taken: set[str] = set()
        self._challenge = ""
        self._nonce_count = itertools.count(1)
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def run(self, rate: float, seconds: float) -> dict[str, list[float]]:
        """Place the calls; milliseconds by what was measured, e.g. "INVITE 180"."""
        start, planned = time.monotonic(), max(1, round(rate * seconds))
        for number in range(planned):
            self._at(start + number / rate, self._place)
        handlers = {self.caller.socket: self._caller_got, self.callee.socket: self._callee_got}
        while (now := time.monotonic()) < start + seconds + DRAIN_S:
            if self._timers and self._timers[0][0] <= now:
                heapq.heappop(self._timers)[2]()
                continue
            wait_s = min(self._timers[0][0] - now, 0.1) if self._timers else 0.1
            for ready in select.select(list(handlers), [], [], wait_s)[0]:
                arrived_ns = time.perf_counter_ns()
                handlers[ready](Message.parse(ready.recv(65535)), arrived_ns)
        times: dict[str, list[float]] = {"own": self.own_ms}
        for call in self.calls.values():
            for name, value in call.times_ms.items():
                times.setdefault(name, []).append(value)
        return times

    def _at(self, when: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (when, next(self._order), act))

    def _after(self, delay_s: float, act: Callable[[], None]) -> None:
        self._at(time.monotonic() + delay_s, act)

    def _place(self) -> None:
        uri = self.caller.address_of(self.callee.user)
        local = f"<{self.caller.address_of(self.caller.user)}>;tag={token()}"
        call = _Call(Dialog(f"{token()}@probe", local, f"<{uri}>", uri))
        self.calls[call.dialog.call_id] = call
        self._invite(call)

    def _invite(self, call: _Call) -> None:
        headers: tuple[tuple[str, str], ...] = ()
        if self._challenge:
            count, uri = next(self._nonce_count), call.dialog.target
            answer = self.caller.credentials.answer(self._challenge, "INVITE", uri, count=count)
            headers = (("Proxy-Authorization", answer),)
        call.sent_ns = time.perf_counter_ns()
        self.caller.invite(call.dialog, audio_sdp(self.caller.port + 2), headers=headers)

    def _caller_got(self, message: Message, now_ns: int) -> None:
        call = self.calls.get(message.get("call-id"))
        if call is None or not message.status:
            return
        if message.status == 407:
            self.caller.ack(call.dialog, message)
            self._challenge, self._nonce_count = message.get("proxy-authenticate"), itertools.count(1)
            call.dialog.cseq += 1
            call.times_ms.clear()
            self._invite(call)
            return
        key = f"{message.method} {message.status}"
        first = key not in call.times_ms
        call.times_ms.setdefault(key, (now_ns - call.sent_ns) / 1e6)
        if key == "INVITE 200":
            self.caller.ack(call.dialog, message)
            if first:
                self._after(HOLD_S, lambda: self._hang_up(call))

    def _hang_up(self, call: _Call) -> None:
        call.sent_ns = time.perf_counter_ns()
        self.caller.request(call.dialog, "BYE")

    def _callee_got(self, message: Message, now_ns: int) -> None:
        if message.status or message.method == "ACK":
            return
        if message.method != "INVITE":
            self.callee.reply(message, 200, "OK")
        elif message.get("call-id") not in self._taken:
            self._taken.add(message.get("call-id"))
            dialog = self.callee.answer(message)
            self.callee.reply(message, 180, "Ringing", dialog=dialog)
            self.own_ms.append((time.perf_counter_ns() - now_ns) / 1e6)
            self._after(RING_S, lambda: self._answer(message, dialog))

    def _answer(self, invite: Message, dialog: Dialog) -> None:
        self.callee.reply(invite, 200, "OK", dialog=dialog, body=audio_sdp(self.callee.port + 2))


def quantiles(values: list[float]) -> dict[str, float]:
    """Count, median, 99th percentile and maximum, rounded to microseconds where the unit is milliseconds."""
    ordered = sorted(values)
    last = len(ordered) - 1

    def at(share: float) -> float:
        return round(ordered[round(last * share)], 3)

    return {"count": len(ordered), "p50": at(0.5), "p99": at(0.99), "max": at(1)} if ordered else {"count": 0}


def main(arguments: list[str]) -> int:
    """Run one probe and print its figures."""
    parser = argparse.ArgumentParser(prog="load.probe", description=__doc__)
    parser.add_argument("--server", required=True, help="host:port")
    parser.add_argument("--domain", required=True)
    parser.add_argument("--caller", required=True, help="user:password")
    parser.add_argument("--callee", required=True, help="user:password")
    parser.add_argument("--called-port", type=int, default=0, help="take calls there and do not register")
    parser.add_argument("--rate", type=float, default=20)
    parser.add_argument("--seconds", type=float, default=8)
    options = parser.parse_args(arguments)
    host, _, port = options.server.rpartition(":")
    server = (host, int(port))

    def phone(account: str, local_port: int = 0) -> Phone:
        user, _, password = account.partition(":")
        return Phone(server, Credentials(user, password), domain=options.domain, port=local_port)

    with phone(options.caller) as caller, phone(options.callee, options.called_port) as callee:
        if not options.called_port:
            assert callee.register().status == 200
        times = Probe(caller, callee).run(options.rate, options.seconds)
        if not options.called_port:
            with contextlib.suppress(
                AssertionError
            ):  # a late BYE in between: the server is slow, and that is the result
                callee.register(expires_s=0)
    print(json.dumps({name: quantiles(values) for name, values in sorted(times.items())}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
