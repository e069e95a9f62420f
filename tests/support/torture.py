"""One message at the B2BUA's core, in a world where everything else works: what it is answered."""

from __future__ import annotations

from pbx_signaling.calls.signals import Found
from pbx_signaling.users.messages import Pager, PagerMessage
from pbx_signaling.users.registrations import RegisterAsk, Registered, Registration
from pbx_sip.address import HostPort
from pbx_sip.message.message import Response
from support.bench_core import Bench

PEER = HostPort("192.0.2.99", 5060)


def fits(status: str, wanted: list[str]) -> bool:
    """Whether an answer ("404", "drop") is one of a list that may hold classes ("4xx") and "any"."""
    return any(
        word == status or (word == "any" and status != "drop") or (word[1:] == "xx" and word[0] == status[0])
        for word in wanted
    )


def answer_of(data: bytes) -> str:
    """The last answer of the core to a message, or "drop"."""
    bench = Bench()
    core = bench.core

    def ask(asked: RegisterAsk) -> None:
        waiting.append(asked)

    waiting: list[RegisterAsk] = []
    registration = core.registration = Registration(core, core._gate, ask)
    messages: list[PagerMessage] = []
    pager = core.pager = Pager(core, core._gate, core._identity, core._addressing, messages.append)
    bench.raw(data, PEER)
    for asked in waiting:
        registration.registered(asked.number, Registered(200), bench.now)
        bench.drain()
    for message in messages:
        pager.signal(message.number, Found(False, []), bench.now)
        bench.drain()
    statuses = [m.status for m, remote in bench.sent if isinstance(m, Response) and remote == PEER]
    bench.advance(300)
    bench.sent.clear()
    assert not core.calls
    assert core.layer.active == 0
    return str(statuses[-1]) if statuses else "drop"
