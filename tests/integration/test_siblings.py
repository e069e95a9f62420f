"""Links between processes of one address over real sockets: order, a receiver that is busy, one that goes and comes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pbx_signaling.clients import siblings
from pbx_signaling.clients.siblings import Siblings
from pbx_signaling.replicas.frame import Frame, Word
from pbx_signaling.replicas.peering import Carriage, at
from pbx_sip.address import Flow, HostPort, Transport

TLS = Flow(Transport.TLS, HostPort("2001:db8::1", 40_000), "tls6", 7)


class Process:
    """One of them."""

    def __init__(self, name: str, places: dict[str, str]) -> None:
        self.came: list[Frame] = []
        self.broken: list[Flow] = []
        self.lost: list[str] = []
        self.link = Siblings(name, places, self.came.append, self.broken.append, self.lost.append)

    @property
    def heard(self) -> list[Frame]:
        return [frame for frame in self.came if frame.word is not Word.HELLO]


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    return {name: str(tmp_path / f"{name}.link") for name in ("abcd00", "abcd01")}


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


async def test_everything_arrives_in_order_also_where_the_receiver_is_busy(places: dict[str, str]) -> None:
    one, other = Process("abcd00", places), Process("abcd01", places)
    other.link.open()
    one.link.open()
    await until(lambda: other.came)
    assert other.came[0].word is Word.HELLO
    # No turn of the loop in between: the receiver takes nothing in, and the kernel keeps a few datagrams.
    for number in range(3000):
        one.link.carry("abcd01", Carriage.SEND, str(number).encode() + b"x" * 700, TLS)
    await until(lambda: len(other.heard) == 3000)
    assert [int(frame.data.rstrip(b"x")) for frame in other.heard] == list(range(3000))
    assert {(frame.word, frame.sender, frame.flow) for frame in other.heard} == {(Word.SEND, "abcd00", TLS)}
    assert (one.link.carried, one.link.dropped) == (3000, 0)
    one.link.carry("abcd01", Carriage.RECEIVED, b"x" * 65_535, TLS)
    await until(lambda: len(other.heard) == 3001)
    for process in (one, other):
        process.link.close()
    assert not set(map(os.path.basename, places.values())) & set(os.listdir(os.path.dirname(places["abcd00"])))


async def test_what_waits_has_a_bound(places: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(siblings, "WAITING_MAX", 50)
    one, other = Process("abcd00", places), Process("abcd01", places)
    other.link.open()
    for number in range(5000):
        one.link.carry("abcd01", Carriage.SEND, str(number).encode(), TLS)
    assert one.link.dropped > 1000
    await until(lambda: len(other.heard) + one.link.dropped == 5000)
    assert [frame.data for frame in other.heard][:10] == [str(number).encode() for number in range(10)]
    one.link.close()
    other.link.close()


async def test_a_process_that_is_gone_breaks_its_flows_at_once_and_is_reached_when_it_is_back(
    places: dict[str, str],
) -> None:
    one, other = Process("abcd00", places), Process("abcd01", places)
    one.link.open()
    assert one.lost == ["abcd01"], "nobody there yet"
    other.link.open()
    one.link.carry("abcd01", Carriage.SEND, b"1", TLS)
    await until(lambda: other.heard)
    other.link.close()
    one.link.carry("abcd01", Carriage.SEND, b"2", TLS)
    one.link.carry("abcd01", Carriage.RECEIVED, b"3", TLS)
    assert one.broken == [at("abcd01", TLS)]
    assert one.link.dropped == 2
    again = Process("abcd01", places)
    again.link.open()
    one.link.carry("abcd01", Carriage.SEND, b"4", TLS)
    await until(lambda: again.heard and one.came)
    assert [frame.data for frame in again.heard] == [b"4"]
    assert one.came[-1].word is Word.HELLO
    one.link.close()
    again.link.close()


async def test_a_receiver_that_dies_while_frames_wait_for_it(places: dict[str, str]) -> None:
    one, other = Process("abcd00", places), Process("abcd01", places)
    other.link.open()
    for number in range(2000):
        one.link.carry("abcd01", Carriage.SEND, str(number).encode(), TLS)
    other.link.close()
    await until(lambda: one.lost)
    assert one.link.carried + one.link.dropped == 2000
    assert len(one.broken) == one.link.dropped
    one.link.close()


async def test_what_is_no_frame_is_counted_and_nothing_more(places: dict[str, str]) -> None:
    one, other = Process("abcd00", places), Process("abcd01", places)
    other.link.open()
    one.link.carry("abcd01", Carriage.SEND, b"1", TLS)
    line = one.link._lines["abcd01"]
    assert line.socket is not None
    line.socket.send(b"\x07 of another version")
    one.link.carry("abcd01", Carriage.SEND, b"2", TLS)
    await until(lambda: len(other.heard) == 2)
    assert other.link.dropped == 1
    one.link.close()
    other.link.close()
