"""The short form of `make chaos`: half a minute of calls while processes are killed, then everything is counted."""

from __future__ import annotations

import random

import pytest

from load.chaos import VICTIMS, chaos

pytestmark = pytest.mark.integration
SECONDS = 25.0
RATE = 6.0


@pytest.mark.xdist_group("chaos")
def test_every_call_has_one_final_cdr_and_every_event_arrives_though_processes_are_killed() -> None:
    random.seed(4711)
    report = chaos(SECONDS, RATE, relay_ports=2048)
    print(report.text())
    assert not report.findings(), report.text()
    assert sum(report.killed.values()) >= 3, report.text()
    assert set(report.killed) <= set(VICTIMS)
    assert sum(placed.is_certain for placed in report.placed) > SECONDS * RATE / 3, report.text()
