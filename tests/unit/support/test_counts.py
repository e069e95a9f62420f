"""Figures that are counts: reading what tools and /proc say, and what is made of it."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import pytest

from load import core_cost, counts, switches
from support import procfs

REPORT = """==8137== Events    : Ir
==8137== Collected : 1307761503
==8137==
==8137== I   refs:      1,307,761,503
"""


def test_callgrinds_count_is_read() -> None:
    assert core_cost.instructions(REPORT) == 1_307_761_503


@pytest.mark.parametrize("report", ["", "valgrind: command not found", "==1== Collected : many"])
def test_a_report_without_a_count_is_an_error(report: str) -> None:
    with pytest.raises(ValueError, match="tells no count"):
        core_cost.instructions(report)


def test_what_both_replays_cost_alike_is_in_no_call() -> None:
    assert core_cost.per_call({150: 7_000_150, 50: 7_000_050}) == 1
    assert core_cost.per_call({50: 1_200_000, 150: 1_600_000}) == 4_000


def test_a_challenge_is_answered_as_the_rfc_does() -> None:
    """By hand, after RFC 7616 section 3.4.1."""
    challenge = 'Digest realm="pbx.local", nonce="n1", algorithm=MD5, qop="auth"'
    value = core_cost.answer(challenge, "INVITE", "sip:1008@h")
    secret = hashlib.md5(f"1004:pbx.local:{core_cost.PASSWORD}".encode()).hexdigest()
    what = hashlib.md5(b"INVITE:sip:1008@h").hexdigest()
    response = hashlib.md5(f"{secret}:n1:00000001:{core_cost.CNONCE}:auth:{what}".encode()).hexdigest()
    assert f'response="{response}"' in value
    assert 'nonce="n1"' in value


def test_a_replay_says_what_the_record_said_and_one_that_does_not_is_noticed() -> None:
    inputs, prints = core_cost.record(3)
    core_cost.check((inputs, prints))
    with pytest.raises(AssertionError, match="replay of call 2 took another way"):
        core_cost.check((inputs, [*prints[:2], "0" * 64]))


def test_switches_are_read_of_a_thread() -> None:
    status = b"Name:\tx\nThreads:\t2\nvoluntary_ctxt_switches:\t17\nnonvoluntary_ctxt_switches:\t4\n"
    assert procfs.switches_in(status) == 17
    with pytest.raises(ValueError, match="no count"):
        procfs.switches_in(b"Name:\tx\nnonvoluntary_ctxt_switches:\t4\n")


def test_sleeps_of_all_threads_of_a_process_count() -> None:
    own = [os.getpid()]
    before = procfs.voluntary_switches(own)
    done = threading.Event()

    def sleep() -> None:
        for _ in range(5):
            threading.Event().wait(0.001)
        done.set()
        threading.Event().wait(5)

    threading.Thread(target=sleep, daemon=True).start()
    assert done.wait(10)
    assert procfs.voluntary_switches(own) >= before + 5
    assert procfs.voluntary_switches([2**22 + 1]) == 0, "a process that is gone has none"


def test_what_services_do_by_themselves_is_taken_off() -> None:
    idle = ({"signaling": 100, "redis": 0}, {"signaling": 150, "redis": 5})
    load = ({"signaling": 200, "redis": 10}, {"signaling": 6_300, "redis": 10, "born": 60})
    found = switches.per_call(idle, 5.0, load, 10.0, 600)
    assert found == {"signaling": 10.0, "redis": 0.0, "born": 0.1, "all": 10.1}


def test_the_table_names_the_figures_as_they_are_in_the_file() -> None:
    figures = {
        core_cost.FIGURE: 2_000_000,
        "others": {"../old": 4_000_000},
        switches.FIGURE: {"reason": "2 failed", "signaling": 11.0, "redis": 4.0, "all": 15.0},
    }
    text = counts.table(figures)
    assert "core_instructions_per_call" in text
    assert "2,000,000" in text
    assert "takes 0.500 of it" in text
    assert "switches_per_call" in text
    assert "signaling 11, redis 4   FAILED: 2 failed" in text
    assert "not counted: valgrind" in counts.table({core_cost.FIGURE: None})


def test_the_bench_has_its_command_and_its_page() -> None:
    root = Path(__file__).resolve().parents[3]
    assert "bench-counts:" in (root / "Makefile").read_text(encoding="utf-8")
    page = (root / "docs/benchmarks.md").read_text(encoding="utf-8")
    assert core_cost.FIGURE in page
    assert switches.FIGURE in page
