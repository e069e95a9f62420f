"""The harness against itself, without the product: what fails here is no fault of the product's."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import pytest

from support.baresip import Baresip, Line
from support.ports import free_port
from support.sipp import Sipp
from support.sipp_script import ANSWER, OFFER, Callee, Caller
from support.tone import read, write_tone
from support.wire import Credentials

pytestmark = pytest.mark.interop

LADDERS = {
    "caller hangs up": (
        Caller("1", "", "2").invite().recv(180).answered().ack().pause(50).bye().recv(200),
        Callee().ring().answer().take("BYE").reply(200),
    ),
    "callee hangs up": (
        Caller("1", "", "2").invite().recv(180).answered().ack().take("BYE").reply(200),
        Callee().ring().answer().pause(50).bye().recv(200),
    ),
    "cancelled": (
        Caller("1", "", "2").invite().recv(180).cancel().recv(200, CSeq="CANCEL").recv(487).reject_ack(),
        Callee().ring().cancelled(),
    ),
    "refused": (
        Caller("1", "", "2").invite().recv(180).recv(486).reject_ack(),
        Callee().ring().reject(486),
    ),
    "re-INVITE of both": (
        Caller("1", "", "2").invite().recv(180).answered().ack().take("INVITE").reply(200, ANSWER).take("ACK")
        .invite().answered().ack().bye().recv(200),
        Callee().ring().answer().request("INVITE", OFFER).recv(200).ack()
        .take("INVITE").answer().take("BYE").reply(200),
    ),
    "PRACK and UPDATE": (
        Caller("1", "", "2").invite(headers="Supported: 100rel\n").early(183).prack().recv(200, CSeq="PRACK")
        .recv(180).answered().ack().request("UPDATE", OFFER).recv(200).bye().recv(200),
        Callee().ring(183, ANSWER, headers="Require: 100rel\nRSeq: 17\n")
        .take("PRACK", RAck="17 1 INVITE").reply(200).reply_invite(180).reply_invite(200).take("ACK")
        .take("UPDATE").reply(200, ANSWER).take("BYE").reply(200),
    ),
}  # fmt: skip


@pytest.mark.parametrize("ladder", LADDERS)
def test_sipp_against_sipp(ladder: str) -> None:
    caller, callee = LADDERS[ladder]
    port = free_port()
    limits = ["-recv_timeout", "5000"]
    with Sipp(callee.xml(), port=port, target=None, extra=limits) as called:
        called.wait_ready()
        with Sipp(caller.xml(), port=free_port(), target=("127.0.0.1", port), extra=limits) as calling:
            outcome = calling.wait(15)
            assert (outcome.exit_code, outcome.successful) == (0, 1), calling.explain()
        assert called.wait(5).exit_code == 0, called.explain()


def test_baresip_hears_baresip() -> None:
    line = Line(("127.0.0.1", 9), Credentials("2", "x"), "pbx.local", tone_hz=1000, tone_s=5, register=False)
    with Baresip(line) as called:
        caller = dataclasses.replace(line, server=("127.0.0.1", called.port), tone_hz=440)
        with Baresip(dataclasses.replace(caller, credentials=Credentials("1", "x"))) as calling:
            calling.command("dial", called.address)
            called.wait_for("CALL_INCOMING")
            called.command("accept")
            calling.wait_for("CALL_ESTABLISHED")
            time.sleep(1.5)  # real time passes: this is sound
            calling.command("hangup")
            called.wait_for("CALL_CLOSED")
            calling.quit()
            called.quit()
            for phone, other_hz in ((calling, 1000), (called, 440)):
                sound = phone.heard.cut(0.3, 1.2)
                assert sound.duration_s > 0.8
                assert sound.share_of(other_hz) > 0.95
                assert sound.share_of(700) < 0.01


def test_a_tone_is_found_and_no_other(tmp_path: Path) -> None:
    write_tone(tmp_path / "t.wav", 440, 0.5)
    sound = read(tmp_path / "t.wav")
    assert sound.share_of(440) > 0.99
    assert sound.share_of(445) < 0.9
    assert sound.share_of(1000) < 0.01
