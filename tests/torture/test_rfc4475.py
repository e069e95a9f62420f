"""The torture messages of RFC 4475, each at the core of the B2BUA, answered as its section says.

`tests/data/rfc4475/manifest.json` says what should be answered (`best`), what the text tolerates (`also`) and what must
never happen (`never`). A message that asks for 200 may get any answer that says that it was understood.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pbx_signaling.call.events import Found
from pbx_signaling.pager import Pager, PagerMessage
from pbx_signaling.registration import RegisterAsk, Registered, Registration
from pbx_sip.address import HostPort
from pbx_sip.message.message import Response
from support.bench_core import Bench

DATA = Path(__file__).resolve().parent.parent / "data" / "rfc4475"
CASES = json.loads((DATA / "manifest.json").read_text(encoding="utf-8"))
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


@pytest.mark.parametrize("case", CASES, ids=[case["file"].removesuffix(".dat") for case in CASES])
def test_it_is_answered_as_the_section_says(case: dict[str, Any]):
    status = answer_of((DATA / case["file"]).read_bytes())
    assert fits(status, [*case["best"], *case["also"]]), f"{status}; {case['note']}"
    assert not fits(status, [word for word in case["never"] if word not in case["best"]])
