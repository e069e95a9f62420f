"""A call that is stored and restored at any moment goes on exactly as it would have."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from pbx_signaling.calls import commands as c
from pbx_signaling.calls import signals as e
from pbx_signaling.calls.machine import Call
from pbx_signaling.calls.state import CallPolicy
from pbx_signaling.media.branches import CallMedia
from pbx_signaling.media.session import MediaSession
from pbx_signaling.media.stream import Slot
from pbx_signaling.users.attempt import Attempt
from pbx_signaling.users.entry import Entry
from pbx_signaling.users.snapshot import encode, restore_call
from pbx_sip.address import HostPort
from support.bench_core import sdp

TARGET = e.Target("sip:1008@192.0.2.20:5060", "1008@pbx.local", (), 1, "192.0.2.20", 5060, "udp4", 0, "s1")
PORTS = {(1, 1): (30000, 30001), (1, 2): (30002, 30003), (2, 1): (30004, 30005), (2, 2): (30006, 30007)}
SDP = "application/sdp"
SCRIPT: list[e.Signal] = [
    e.Authenticated("1004", "Alice"),
    e.Found(True, [TARGET]),
    e.MediaReady(Slot("r1", 0, "192.0.2.2", "", PORTS)),
    e.Progress(1, 180, "Ringing", None, "b1"),
    e.Answered(1, e.Content(SDP, sdp("192.0.2.20")), "b1"),
    e.Acknowledged(None),
    e.Asked(1, 7, e.Ask.MODIFY, e.Content(SDP, sdp("192.0.2.20", 4444, direction="sendonly"))),
    e.Replied(0, 7, 200, "OK", e.Content(SDP, sdp("192.0.2.10", direction="recvonly"))),
    e.Confirmed(1, 7, None),
    e.HungUp(1, e.Cause()),
]


def fresh() -> Call:
    call = Call(
        "01CALL",
        "1008",
        "1008@pbx.local",
        "1004@pbx.local",
        10.0,
        1_700_000_000_000,
        CallMedia(MediaSession(7)),
        CallPolicy(),
    )
    call.content = e.Content(SDP, sdp("192.0.2.10"))
    call.start(True, 10.0)
    return call


def stored_and_restored(call: Call) -> Call:
    entry = Entry(call, Attempt("01CALL", "", "", "", "", "", "", 69, HostPort("", 0)), cast("Any", None))
    return restore_call(encode(entry), CallPolicy())


def play(call: Call, cut: int) -> list[list[c.Command]]:
    steps = [call.drain()]
    for number, signal in enumerate(SCRIPT):
        if number == cut:
            call = stored_and_restored(call)
        call.receive(signal, 11.0 + number)
        steps.append(call.drain())
    return steps


@pytest.mark.parametrize("cut", range(len(SCRIPT)))
def test_it_goes_on_as_before(cut: int):
    assert play(fresh(), cut) == play(fresh(), -1)


def test_the_script_is_a_whole_call():
    last: list[Any] = play(fresh(), -1)[-1]
    assert isinstance(last[-1], c.Finish)
    assert any(isinstance(command, c.Emit) and command.record is c.Record.ENDED for command in last)


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xc1", b"\x81\xa7version\x02"])
def test_what_is_no_snapshot_is_refused(data: bytes):
    with pytest.raises(ValueError, match="snapshot"):
        restore_call(data, CallPolicy())


def test_text_that_is_no_utf_8_is_stored_readable():
    call = fresh()
    call.dialled = "l\udce9ger"
    assert stored_and_restored(call).dialled == "l\ufffdger"
    assert stored_and_restored(call).content == call.content


def test_it_says_the_same_in_every_process():
    """Another instance goes on with the call: what it compares must not depend on its own salt of `hash`."""
    program = "import test_snapshot as t; call = t.fresh(); t.play(call, -1); print(call.media.legs[1].versions)"
    told = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            cwd=Path(__file__).parent,
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(told) == 1
    assert "(2, " in told.pop(), "versions were told"
