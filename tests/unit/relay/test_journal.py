"""The journal: what lives is read again, half records and other boots are not, and the file stays small."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from pbx_media_relay import journal as journal_module
from pbx_media_relay.api.grpc import _Session
from pbx_media_relay.api.operations import Operations
from pbx_media_relay.civil import CivilTime
from pbx_media_relay.datapath.null import NullDatapath
from pbx_media_relay.endpoint import Endpoint
from pbx_media_relay.forward import Medium, Side
from pbx_media_relay.identity import Identity
from pbx_media_relay.journal import FileJournal, Snapshot
from pbx_media_relay.order import Order
from pbx_media_relay.ports import Shard, SlotPool
from pbx_media_relay.relay import Relay
from pbx_media_relay.stream import Direction, PayloadType, Stream

if TYPE_CHECKING:
    from pbx_media_relay.recording.recorder import Recorder

S = 1_000_000_000
A = Stream(
    Side.A, Medium.AUDIO, Endpoint("2001:db8::1", 4000), payload_types=(PayloadType(0, "PCMU", 8000),), relatch=True
)
B = Stream(Side.B, Medium.AUDIO, Endpoint("192.0.2.2", 5000), direction=Direction.SENDONLY, rtcp_mux=True)


OPEN: list[FileJournal] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().close()


def open_journal(path: Path, boot_id: str = "boot") -> tuple[FileJournal, list[Snapshot]]:
    made = FileJournal(path / "r1.journal", lambda flush: None, boot_id)
    OPEN.append(made)
    return made, made.load()


def relay_with(journal: FileJournal, datapath: NullDatapath | None = None) -> Relay:
    pool = SlotPool(Shard(30000, 30799), random.Random(1))
    return Relay(pool, datapath or NullDatapath(), media_timeout_s=60, tell=lambda event: None, journal=journal)


def two_calls(path: Path) -> tuple[FileJournal, Relay]:
    journal, _ = open_journal(path)
    relay = relay_with(journal)
    relay.start()
    for call_id in ("c1", "c2", "over"):
        relay.allocate(Order(call_id, "s1", (A,)), S)
        relay.update(call_id, "s1", [A, B], 2 * S)
    relay.release("over", 3 * S)
    journal.flush()
    return journal, relay


def test_an_answer_leaves_after_the_call_is_on_disk(tmp_path: Path) -> None:
    """No turn of the loop comes to its end here: who is killed right after the answer has written before it."""
    journal, _ = open_journal(tmp_path)
    relay = relay_with(journal)
    relay.start()
    relay.allocate(Order("c1", "s1", (A,)), S)
    operations = Operations(relay, Identity("r1", (), "null"), CivilTime(), 0.0, cast("Recorder", None))
    _Session(operations).response([])
    assert [each.id for each in open_journal(tmp_path)[1]] == ["c1"]


def test_a_killed_relay_knows_its_calls_again(tmp_path: Path) -> None:
    _, before = two_calls(tmp_path)
    wanted = {call.id: call for call in before.calls}
    journal, former = open_journal(tmp_path)
    orphan = 3700 * 4
    datapath = NullDatapath(survivors=[orphan, *wanted["c1"].forwards])
    after = relay_with(journal, datapath)
    after.start(former, 10 * S)
    assert {call.id: call for call in after.calls} == wanted
    assert datapath.forwards == {number: each for call in wanted.values() for number, each in call.forwards.items()}
    assert datapath.bound == {call.slot_port for call in wanted.values()}
    assert after.status.slots.taken == 2
    after.handle_timeout(70 * S)
    assert len(after.calls) == 0, "nobody came back for them"


def test_a_record_cut_in_the_middle_ends_the_reading(tmp_path: Path) -> None:
    journal, _ = two_calls(tmp_path)
    journal.close()
    path = tmp_path / "r1.journal"
    data = path.read_bytes()
    for end in range(len(data)):
        path.write_bytes(data[:end])
        found = journal_module._read(path, "boot")
        assert {call.id for call in found} <= {"c1", "c2", "over"}


@pytest.mark.parametrize("garbage", [b"", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\x01\xc1", bytes(100)])
def test_garbage_is_an_empty_journal(tmp_path: Path, garbage: bytes) -> None:
    (tmp_path / "r1.journal").write_bytes(garbage)
    assert open_journal(tmp_path)[1] == []


def test_another_boot_has_other_clocks(tmp_path: Path) -> None:
    two_calls(tmp_path)
    assert open_journal(tmp_path, "other boot")[1] == []


def test_the_file_is_written_anew_when_it_is_mostly_garbage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "GARBAGE_BYTES_MAX", 10_000)
    journal, _ = open_journal(tmp_path)
    relay = relay_with(journal)
    relay.start()
    relay.allocate(Order("stays", "s1", (A, B)), 0)
    for number in range(500):
        relay.allocate(Order(f"c{number}", "s1", (A, B)), number * S)
        relay.release(f"c{number}", number * S)
        relay.handle_timeout(number * S)
        journal.flush()
    assert (tmp_path / "r1.journal").stat().st_size < 20_000
    assert [call.id for call in open_journal(tmp_path)[1]] == ["stays"]


def test_a_port_that_is_taken_loses_that_call_alone(tmp_path: Path) -> None:
    _, before = two_calls(tmp_path)
    first, second = before.calls
    journal, former = open_journal(tmp_path)
    after = relay_with(journal, NullDatapath(busy_ports=[first.slot_port + 3]))
    after.start(former, 10 * S)
    assert [call.id for call in after.calls] == [second.id]
    assert after.status.slots.broken == 1


def test_a_full_disk_ends_the_journal_and_not_the_relay(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    journal = FileJournal(tmp_path / "file" / "r1.journal", lambda flush: None, "boot")
    assert journal.load() == []
    relay = relay_with(journal)
    relay.start()
    relay.allocate(Order("c1", "s1", (A,)), 0)
    journal.flush()
    journal.close()
    assert len(relay.calls) == 1
