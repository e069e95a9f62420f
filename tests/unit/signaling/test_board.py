"""Memory that processes share: transactions and counts, and what happens where places are taken."""

from __future__ import annotations

import pytest

from pbx_signaling.replicas import board
from pbx_signaling.replicas.board import OCTETS, PROBES, Board

NAMES = ("abcd00", "abcd01", "abcd02")


@pytest.fixture
def boards() -> list[Board]:
    memory = memoryview(bytearray(OCTETS))
    return [Board(memory, index, NAMES) for index in range(len(NAMES))]


def test_whose_transaction_a_branch_is(boards: list[Board]) -> None:
    assert boards[0].owner(b"z9hG4bK1") == ""
    for index, each in enumerate(boards):
        each.note(b"z9hG4bK%d" % index)
    for each in boards:
        assert [each.owner(b"z9hG4bK%d" % index) for index in range(3)] == list(NAMES)
    boards[2].note(b"z9hG4bK0")
    assert boards[0].owner(b"z9hG4bK0") == NAMES[2]


def test_another_branch_at_the_same_place_is_not_mistaken(boards: list[Board], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "_hash", lambda text: int(text) << 16 | 7)
    boards[0].note(b"1")
    assert boards[1].owner(b"2") == ""
    boards[1].note(b"2")
    assert (boards[0].owner(b"1"), boards[0].owner(b"2")) == ("", NAMES[1])


def test_counts_of_the_others(boards: list[Board]) -> None:
    boards[0].put("a 2000", 2)
    boards[1].put("a 2000", 3)
    boards[1].put("a 2001", 9)
    assert [each.elsewhere("a 2000") for each in boards] == [3, 2, 5]
    boards[1].put("a 2000", 0)
    assert [each.elsewhere("a 2000") for each in boards] == [0, 2, 2]
    boards[0].put("a 2000", 1 << 20)
    assert boards[1].elsewhere("a 2000") == 0xFFFF, "as many as fit"


def test_a_process_that_begins_has_no_calls(boards: list[Board]) -> None:
    memory = memoryview(bytearray(OCTETS))
    first, second = Board(memory, 0, NAMES), Board(memory, 1, NAMES)
    first.put("a 2000", 2)
    second.put("a 2000", 3)
    again = Board(memory, 0, NAMES)
    assert (second.elsewhere("a 2000"), again.elsewhere("a 2000")) == (0, 3)


def test_accounts_at_one_place_are_kept_apart_and_one_too_many_is_not_counted(
    boards: list[Board], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board, "_hash", lambda text: int(text) << 16 | 0x7FFE)
    for name in range(1, PROBES + 2):
        boards[0].put(str(name), name)
    found = [boards[1].elsewhere(str(name)) for name in range(1, PROBES + 2)]
    assert found == [*range(1, PROBES + 1), 0]
    boards[0].put("1", 0)
    boards[0].put("9", 4)
    boards[0].put("8", 5)
    assert [boards[1].elsewhere(name) for name in ("1", "8", "9")] == [0, 5, 4]


def test_a_place_that_became_free_does_not_hide_the_one_behind_it(
    boards: list[Board], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board, "_hash", lambda text: int(text) << 16 | 3)
    boards[0].put("1", 1)
    boards[0].put("2", 1)
    boards[0].put("1", 0)
    boards[0].put("2", 2)
    assert boards[1].elsewhere("2") == 2
    boards[0].put("2", 0)
    assert boards[1].elsewhere("2") == 0
