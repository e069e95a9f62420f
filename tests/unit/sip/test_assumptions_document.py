"""The tables of docs/sip-assumptions.md: each row names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2]
ROWS = [
    line.split(" | ")
    for line in (TESTS.parent / "docs" / "sip-assumptions.md").read_text().partition("## RFCs")[2].splitlines()
    if re.match(r"\| \d", line)
]


def test_there_are_rows() -> None:
    assert len(ROWS) > 30


@pytest.mark.parametrize("row", ROWS, ids=[row[0].strip("| ") for row in ROWS])
def test_a_row_names_tests_that_are_there(row: list[str]) -> None:
    number, *_, named = row
    paths = [TESTS / path for path in re.findall(r"`([a-z0-9_/]+(?:\.py)?)`", named)]
    assert paths or "the same" in named, number
    missing = [path for path in paths if not path.exists()]
    assert not missing, number
