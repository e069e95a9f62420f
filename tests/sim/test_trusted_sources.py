"""Networks of ours are not throttled as strangers are; whoever else floods is."""

from __future__ import annotations

import pytest

from pbx_sip.address import HostPort
from pbx_sip.message.message import Response
from support.bench_core import ALICE, Bench

FLOOD = 2_500
"""Above the burst of one source and its refill in no time."""

OPTIONS = """OPTIONS sip:pbx.local SIP/2.0
Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bKo{number};rport
Max-Forwards: 70
From: <sip:edge@pbx.local>;tag=o{number}
To: <sip:pbx.local>
Call-ID: probe-{number}
CSeq: 1 OPTIONS"""
INVITE = OPTIONS.replace("OPTIONS", "INVITE")


def flooded(bench: Bench, text: str) -> set[int]:
    for number in range(FLOOD):
        bench.send(text.format(number=number), ALICE)
    return {each.status for each in bench.take(ALICE) if isinstance(each, Response)}


@pytest.mark.parametrize(("text", "status"), [(OPTIONS, 200), (INVITE, 407), (OPTIONS.replace("CSeq", "XSeq"), 400)])
def test_a_flood_of_an_edge_of_ours_is_served_and_a_strangers_is_not(text: str, status: int) -> None:
    assert flooded(Bench(authenticate=True, trusted=("192.0.2.0/24",)), text) == {status}
    bench = Bench(authenticate=True, trusted=("198.51.100.0/24",))
    assert status in flooded(bench, text)
    assert bench.core.sources.admits(HostPort("203.0.113.9", 5060), bench.now), "nobody else pays for it"
    assert not bench.core.sources.admits(ALICE, bench.now)
