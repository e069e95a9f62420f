"""Reason (RFC 3326) to causes and back: both protocols, several values, and what must not cross."""

from __future__ import annotations

import pytest

from pbx_signaling.border.reason import OTHERS_MAX, cause_of, values
from pbx_signaling.calls.signals import Cause
from pbx_sip.message.headers import Headers
from pbx_sip.message.message import Request


def read(*lines: str) -> Cause:
    return cause_of(Request("BYE", "sip:x@pbx.local", Headers([("Reason", line) for line in lines])))


@pytest.mark.parametrize(
    ("lines", "written"),
    [
        (('Q.850;cause=16;text="Terminated"',), ['Q.850;cause=16;text="Terminated"']),
        (("q.850 ; Cause=31",), ["Q.850;cause=31"]),
        (('Q.850;cause=1;text="x";location=LN',), ['Q.850;cause=1;text="x";location=LN']),
        (
            ('SIP;cause=200;text="Call completed elsewhere"',),
            ['SIP;cause=200;text="Call completed elsewhere"'],
        ),
        (('SIP;cause=600;text="Busy", Q.850;cause=17',), ["Q.850;cause=17", 'SIP;cause=600;text="Busy"']),
        (('SIP;cause=600;text="Busy"', "Q.850;cause=17"), ["Q.850;cause=17", 'SIP;cause=600;text="Busy"']),
        (('Preemption;cause=1;text="UA, \\"Preemption\\""',), ['Preemption;cause=1;text="UA, \\"Preemption\\""']),
        (("SIP;cause=200", "SIP;cause=486"), ["SIP;cause=200"]),
        (("Q.850;cause=abc",), []),
        (("Q.850;cause=99999",), []),
        (("",), []),
        (("SI P;cause=1",), []),
        (("SIP;cause=200;x=<sip:a@b>",), ["SIP;cause=200"]),
        ((), []),
    ],
)
def test_what_was_read_is_written(lines: tuple[str, ...], written: list[str]):
    assert values(read(*lines)) == written


def test_numbers_and_text():
    cause = read('SIP;cause=600;text="Busy"', 'Q.850;cause=17;text="User busy"')
    assert (cause.q850, cause.text) == (17, "User busy")


def test_control_characters_do_not_cross():
    (value,) = values(read('SIP;text="a\x00b\x7f\udc80c"'))
    assert value == 'SIP;text="a b  c"'


def test_the_number_and_length_are_bounded():
    cause = read(*(f'P{number};text="{"x" * 500}"' for number in range(40)))
    assert len(cause.others) == OTHERS_MAX
    assert max(map(len, cause.others)) < 150
