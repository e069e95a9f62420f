"""Repeating until confirmed (2xx, reliable 1xx), RSeq and RAck: RFC 3261 section 13.3.1.4, RFC 3262."""

from __future__ import annotations

import pytest

from pbx_sip.dialog.reliable import Arrival, Confirmed, RAck, ReliableSender, arrival
from pbx_sip.dialog.repetition import Due, Repetition
from pbx_sip.errors import ParseError
from pbx_sip.transaction.timers import DEFAULT


def times(repetition: Repetition) -> list[tuple[float, Due]]:
    """When something is due, and what, until it gives up."""
    found = []
    while not found or found[-1][1] is not Due.GIVE_UP:
        at = repetition.at
        assert repetition.expire(at - 0.001) is Due.NOTHING
        found.append((at, repetition.expire(at)))
    return found


def test_a_2xx_is_repeated_until_32_s() -> None:
    found = times(Repetition.of_answer(0.0, DEFAULT))
    assert [at for at, _ in found] == [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5, 32.0]
    assert [due for _, due in found] == [Due.SEND] * 10 + [Due.GIVE_UP]


def test_reliable_progress_backs_off_without_bound() -> None:
    assert [at for at, _ in times(Repetition.of_progress(10.0, DEFAULT))] == [10.5, 11.5, 13.5, 17.5, 25.5, 41.5, 42.0]


def test_a_jump_of_the_clock_gives_up_at_once() -> None:
    assert Repetition.of_answer(0.0, DEFAULT).expire(1e6) is Due.GIVE_UP


def test_a_late_look_does_not_send_twice() -> None:
    repetition = Repetition.of_answer(0.0, DEFAULT)
    assert repetition.expire(5.0) is Due.SEND
    assert repetition.at == 6.0


@pytest.mark.parametrize(
    "value", ["", "1 2", "1 2 3 4", "a 1 INVITE", "1 -1 INVITE", "99999999999 1 INVITE", "² 1 INVITE"]
)
def test_rack_that_is_none(value: str) -> None:
    with pytest.raises(ParseError):
        RAck.parse(value)


def test_rack_round_trip() -> None:
    assert RAck.parse("776656 1 INVITE") == (776656, 1, "INVITE")
    assert str(RAck.parse(" 1  2   INVITE ")) == "1 2 INVITE"


@pytest.mark.parametrize(
    ("last", "rseq", "expected"),
    [
        (0, 1, Arrival.NEW),
        (0, 988789, Arrival.NEW),
        (5, 6, Arrival.NEW),
        (5, 5, Arrival.REPEATED),
        (5, 4, Arrival.REPEATED),
        (5, 7, Arrival.EARLY),
    ],
)
def test_arrival(last: int, rseq: int, expected: Arrival) -> None:
    assert arrival(last, rseq) is expected


def test_one_reliable_response_at_a_time() -> None:
    sender = ReliableSender(cseq=3, next_rseq=100)
    assert sender.next_timeout is None
    assert sender.send(0.0) == (100, True)
    assert sender.send(0.1) == (101, False)
    assert (sender.waiting, sender.next_timeout) == (100, 0.5)
    assert sender.expire(0.5) is Due.SEND
    for wrong in (RAck(101, 3, "INVITE"), RAck(100, 4, "INVITE"), RAck(100, 3, "UPDATE")):
        assert sender.confirm(wrong, 0.6) == (Confirmed.UNKNOWN, 0)
    assert sender.confirm(RAck(100, 3, "INVITE"), 0.6) == (Confirmed.MATCHED, 101)
    assert sender.next_timeout == pytest.approx(1.1)
    assert sender.confirm(RAck(101, 3, "INVITE"), 0.7) == (Confirmed.MATCHED, 0)
    assert sender.confirm(RAck(101, 3, "INVITE"), 0.8) == (Confirmed.UNKNOWN, 0)
    assert (sender.next_timeout, sender.expire(99.0), sender.waiting) == (None, Due.NOTHING, 0)


def test_a_final_response_ends_it() -> None:
    sender = ReliableSender(cseq=1, next_rseq=1)
    sender.send(0.0)
    sender.stop()
    assert (sender.expire(50.0), sender.waiting) == (Due.NOTHING, 0)


def test_progress_that_is_never_confirmed() -> None:
    sender = ReliableSender(cseq=1, next_rseq=1)
    sender.send(0.0)
    assert sender.expire(32.0) is Due.GIVE_UP
