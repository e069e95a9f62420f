"""One message at the B2BUA's core, in a world where everything else works: what it is answered."""

from __future__ import annotations

from pbx_signaling.calls.signals import Found
from pbx_signaling.users import questions as q
from pbx_signaling.users.step import Ask
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
    """The last answer of the core to a message, or "drop". Whoever is written to, or asked about, is not known."""
    bench = Bench()
    harness = bench.harness
    put = harness.executor.ask

    def ask(asked: Ask) -> None:
        if isinstance(asked.question, q.Find) and asked.user is not harness.core.calls:
            harness.answered(asked, Found(False, []))
        else:
            put(asked)

    harness.executor.ask = ask  # type: ignore[method-assign, assignment]  # the world of this test
    bench.raw(data, PEER)
    statuses = [m.status for m, remote in bench.sent if isinstance(m, Response) and remote == PEER]
    bench.advance(300)
    bench.sent.clear()
    assert not bench.calls
    assert bench.core.layer.active == 0
    return str(statuses[-1]) if statuses else "drop"
