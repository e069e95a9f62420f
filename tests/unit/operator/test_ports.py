"""Blocks of ports: aligned, inside, never overlapping."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pbx_operator.ports import GRID, Block, align, capacity, cells, free_block, markers

ranges = st.tuples(st.integers(1024, 60000), st.integers(8, 5000)).map(lambda t: Block(t[0], min(65535, t[0] + t[1])))
sizes = st.integers(1, 100).map(lambda slots: slots * 8)


@given(within=ranges, size=sizes, taken=st.lists(ranges, max_size=8))
def test_a_chosen_block_is_aligned_inside_and_free(within: Block, size: int, taken: list[Block]) -> None:
    block = free_block(within, size, 8, taken)
    if block is not None:
        assert block.first % 8 == 0
        assert len(block) == size
        assert within.contains(block)
        assert not any(block.overlaps(other) for other in taken)


@given(within=ranges, size=sizes, taken=st.lists(ranges, max_size=4))
def test_none_means_that_no_aligned_block_was_free(within: Block, size: int, taken: list[Block]) -> None:
    if free_block(within, size, 8, taken) is None:
        for first in range(align(within.first, 8), within.last - size + 2, 8):
            candidate = Block(first, first + size - 1)
            assert any(candidate.overlaps(other) for other in taken)


@settings(deadline=None)
@given(within=ranges, size=st.integers(8, 100).map(lambda slots: slots * 8))
def test_a_range_fills_up_to_its_capacity(within: Block, size: int) -> None:
    taken: list[Block] = []
    while (block := free_block(within, size, 8, taken)) is not None:
        taken.append(block)
    assert len(taken) == capacity(within, size, 8)


def test_the_lowest_gap_is_taken_first() -> None:
    within = Block(30000, 30399)
    taken = [Block(30000, 30079), Block(30160, 30239)]
    assert free_block(within, 80, 8, taken) == Block(30080, 30159)


def test_a_block_of_another_grid_is_stepped_over() -> None:
    assert free_block(Block(30000, 30399), 80, 8, [Block(30004, 30013)]) == Block(30016, 30095)


@given(within=ranges, size=sizes, taken=st.lists(ranges, max_size=8))
def test_no_cell_is_touched_by_two_blocks(within: Block, size: int, taken: list[Block]) -> None:
    block = free_block(within, size, 8, map(cells, taken), GRID)
    if block is not None:
        assert block.first % 8 == 0
        assert len(block) == size
        assert within.contains(block)
        assert not any(set(markers(block)) & set(markers(other)) for other in taken)


@settings(deadline=None)
@given(within=ranges, size=st.integers(8, 100).map(lambda slots: slots * 8))
def test_a_range_fills_up_to_its_capacity_in_cells(within: Block, size: int) -> None:
    taken: list[Block] = []
    while (block := free_block(within, size, 8, map(cells, taken), GRID)) is not None:
        taken.append(block)
    assert len(taken) == capacity(within, size, 8, GRID)


@given(one=ranges, other=ranges)
def test_blocks_that_overlap_declare_a_port_in_common(one: Block, other: Block) -> None:
    """However they lie to each other, and whoever chose them: the scheduler refuses the second."""
    if one.overlaps(other):
        assert set(markers(one)) & set(markers(other))


def test_markers_are_the_first_port_of_each_cell() -> None:
    assert markers(Block(20000, 20079)) == (20000, 20032, 20064)
    assert markers(Block(30000, 30079)) == (29984, 30016, 30048)
    assert len(markers(Block(20000, 23999))) == 125


@pytest.mark.parametrize("text", ["", "1", "a-b", "5-1", "0-7", "1-70000"])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Block.parse(text)


def test_text_and_back() -> None:
    assert str(Block.parse("30000-30799")) == "30000-30799"
