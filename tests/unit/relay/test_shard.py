"""The shard's file and the host's ephemeral range."""

from __future__ import annotations

from pathlib import Path

import pytest

from pbx_media_relay.ports import Shard
from pbx_media_relay.shard import ShardFile, check_descriptors, ephemeral_ports


def test_a_changed_file_is_told_once_and_nonsense_changes_nothing(tmp_path: Path) -> None:
    path, told = tmp_path / "shard", list[Shard]()
    file = ShardFile(path, told.append)
    file.look()
    path.write_text("30000-30799\n")
    file.look()
    file.look()
    path.write_text("many")
    file.look()
    path.write_bytes(b"\xff\xfe")
    file.look()
    path.write_text("40000-40799")
    file.look()
    path.unlink()
    file.look()
    assert told == [Shard(30000, 30799), Shard(40000, 40799)]


@pytest.mark.parametrize(
    ("reserved", "at_risk"),
    [("", 7232), ("\n", 7232), ("30000-39999", 0), ("32768-39998", 1), ("5060,32768", 7231), ("40000", 7232)],
)
def test_ports_that_the_kernel_may_hand_out(reserved: str, at_risk: int) -> None:
    assert ephemeral_ports(Shard(30000, 39999), "32768\t60999\n", reserved) == at_risk


def test_a_shard_below_the_range_is_safe() -> None:
    assert ephemeral_ports(Shard(10000, 20000), "32768 60999", "") == 0


@pytest.mark.parametrize(
    ("hosts", "limit", "usable", "warns"),
    [(1, 1 << 20, 1250, False), (2, 20_000, 1234, False), (2, 8192, 496, True), (1, 100, 0, True)],
)
def test_a_shard_that_the_process_has_no_descriptors_for_is_said(
    hosts: int, limit: int, usable: int, warns: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check_descriptors(Shard(30000, 39999), hosts, limit) == usable
    assert ("too few descriptors" in capsys.readouterr().out) is warns
