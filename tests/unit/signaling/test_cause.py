"""What a callee's refusal, or the want of any answer, means to the caller and to the CDR."""

from __future__ import annotations

import pytest

from pbx_signaling.calls.ending import Origin, Outcome, ending_of_rejection
from pbx_signaling.calls.signals import Cause, Rejected


@pytest.mark.parametrize(
    ("status", "local", "to_caller", "outcome", "word"),
    [
        (486, False, 486, Outcome.BUSY, "busy"),
        (503, False, 480, Outcome.NO_ANSWER, "unavailable"),
        (401, False, 403, Outcome.FAILED, "refused"),
        (302, False, 480, Outcome.UNREACHABLE, "redirected"),
        (408, True, 408, Outcome.NO_ANSWER, "no_response"),
        (503, True, 480, Outcome.UNREACHABLE, "transport"),
    ],
)
def test_the_status_for_the_caller(status: int, local: bool, to_caller: int, outcome: Outcome, word: str) -> None:
    ending = ending_of_rejection(Rejected(1, status, "", Cause(), local=local))
    assert (ending.sip_status, ending.outcome, ending.word) == (to_caller, outcome, word)
    assert ending.origin is (Origin.TIMER if local else Origin.REMOTE)
