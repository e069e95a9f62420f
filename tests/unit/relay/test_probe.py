"""The relay's look at its own echo: green where packets pass, red where they do not, no slot left behind."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator

import pytest

from pbx_media_relay.datapath.base import Datapath
from pbx_media_relay.datapath.null import NullDatapath
from pbx_media_relay.datapath.select import Wanted, select
from pbx_media_relay.order import Order
from pbx_media_relay.ports import Shard, SlotPool
from pbx_media_relay.probe import EchoProbe
from pbx_media_relay.relay import Relay
from support.ports import free_block, give_back_block


@pytest.fixture
def ports() -> Iterator[tuple[int, int]]:
    block = free_block(16)
    yield block
    give_back_block(block)


def relay_on(datapath: Datapath, ports: tuple[int, int]) -> Relay:
    relay = Relay(SlotPool(Shard(*ports), random.Random(1)), datapath, media_timeout_s=60, tell=lambda event: None)
    relay.start()
    return relay


async def test_packets_that_pass_are_green_and_leave_no_call(ports: tuple[int, int]) -> None:
    datapath = select("python", Wanted(("127.0.0.1",), Shard(*ports), ())).datapath
    relay = relay_on(datapath, ports)
    try:
        probe = EchoProbe(relay, "0.0.0.0", time.monotonic_ns)
        assert await probe.look() == ""
        assert (len(relay.calls), probe.failures) == (0, 0)
    finally:
        datapath.close()


async def test_packets_that_do_not_pass_are_red(monkeypatch: pytest.MonkeyPatch, ports: tuple[int, int]) -> None:
    monkeypatch.setattr("pbx_media_relay.probe.PATIENCE_S", 0.01)
    relay = relay_on(NullDatapath(), ports)
    probe = EchoProbe(relay, "127.0.0.1", time.monotonic_ns)
    assert "did not come out at the other side" in await probe.look()
    assert (len(relay.calls), probe.failures) == (0, 1)


async def test_busy_is_not_broken(ports: tuple[int, int]) -> None:
    relay = relay_on(NullDatapath(), (ports[0], ports[0] + 7))
    relay.allocate(Order("c1", "s1"), 0)
    assert await EchoProbe(relay, "127.0.0.1", time.monotonic_ns).look() == ""
    relay.drain(10**9, 0)
    assert await EchoProbe(relay, "127.0.0.1", time.monotonic_ns).look() == ""


async def test_an_address_that_cannot_be_bound_is_said(ports: tuple[int, int]) -> None:
    relay = relay_on(NullDatapath(), ports)
    trouble = await EchoProbe(relay, "192.0.2.77", time.monotonic_ns).look()
    assert trouble.startswith("no echo: ")
    await asyncio.sleep(0)
