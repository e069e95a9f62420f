"""Two phones of one user, of independent stacks: both ring, one answers, the other stops without a missed call."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.baresip import Baresip, Line
from support.linphone import Linphone
from support.product import DOMAIN, installed
from support.waiting import until

if TYPE_CHECKING:
    from support.pair import Pair

pytestmark = pytest.mark.interop


def line(pair: Pair, user: str, tone_hz: float) -> Line:
    return Line(pair.product.sip, pair.product.credentials(user), DOMAIN, tone_hz)


def test_both_ring_and_one_answers(pair: Pair) -> None:
    with (
        Baresip(line(pair, pair.callee, 1000.0)) as first,
        Baresip(line(pair, pair.callee, 700.0)) as second,
        Baresip(line(pair, pair.caller, 440.0)) as caller,
    ):
        until(lambda: len(pair.contacts(pair.callee)) == 2, timeout_s=15, what="two phones registered")
        pair.wait_registered(pair.caller)
        caller.command("dial", f"sip:{pair.callee}@{DOMAIN}")
        first.wait_for("CALL_INCOMING")
        second.wait_for("CALL_INCOMING")
        caller.wait_for("CALL_RINGING")
        second.command("accept")
        caller.wait_for("CALL_ESTABLISHED")
        first.wait_for("CALL_CLOSED")
        caller.command("hangup")
        second.wait_for("CALL_CLOSED")
        answered = second.port
    cdr = pair.cdr(outcome="answered", hung_up_by="caller", connected=pair.callee)
    assert f":{answered}" in cdr["target"], "the CDR says which phone answered"
    pair.released()


@pytest.mark.skipif(not installed("linphonec"), reason="not run: linphonec is missing (Debian linphone-cli)")
def test_a_linphone_shows_a_missed_call_only_where_nobody_answered(pair: Pair) -> None:
    with (
        Linphone(pair.product.sip, pair.product.credentials(pair.callee), DOMAIN) as first,
        Baresip(line(pair, pair.callee, 700.0)) as second,
        Baresip(line(pair, pair.caller, 440.0)) as caller,
    ):
        until(lambda: len(pair.contacts(pair.callee)) == 2, timeout_s=15, what="two phones registered")
        pair.wait_registered(pair.caller)
        caller.command("dial", f"sip:{pair.callee}@{DOMAIN}")
        first.wait_for(rf"incoming call from .*sip:{pair.caller}@")
        second.wait_for("CALL_INCOMING")
        second.command("accept")
        caller.wait_for("CALL_ESTABLISHED")
        first.wait_for("ended")
        first.command("call-logs")
        first.wait_for("Status: answered elsewhere")
        caller.command("hangup")
        second.wait_for("CALL_CLOSED")
        caller.command("dial", f"sip:{pair.callee}@{DOMAIN}")
        first.wait_for(rf"incoming call from .*sip:{pair.caller}@")
        caller.command("hangup")
        first.wait_for("ended")
        first.command("call-logs")
        first.wait_for("Status: missed")
    pair.released()
