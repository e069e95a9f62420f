"""One of our datapaths under load, in a process and a namespace of its own: installs calls, says what they cost.

`python -m load.media.target NAME CALLS CORE`: prints one JSON line when all calls are installed; ends with its standard
input, and prints the sum of what the datapath counted.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

import uvloop

from load.media.topology import CALLEE, CALLER, phone_port
from load.relay_bench import rss_kib
from pbx_media_relay.app import raise_descriptor_limit
from pbx_media_relay.datapath.select import FACTORIES, Wanted
from pbx_media_relay.endpoint import Endpoint
from pbx_media_relay.forward import Forward
from pbx_media_relay.ports import Shard

SHARD = Shard(30000, 39999)


class Deaf:
    """A listener that takes no notice."""

    def first_packet(self, forward: int, source: Endpoint, at_ns: int) -> None:
        """See `Listener`."""

    def tapped(self, forward: int, packet: bytes, at_ns: int) -> None:
        """See `Listener`."""


def forwards(slot_port: int, number: int) -> list[Forward]:
    """Both sides of a call's audio, strict."""
    made = []
    for port, peer, end in ((slot_port, slot_port + 4, CALLER), (slot_port + 4, slot_port, CALLEE)):
        rtp = Endpoint(end.host, phone_port(number))
        rtcp = Endpoint(end.host, phone_port(number) + 1)
        made.append(
            Forward(id=port // 2, peer=peer // 2, port=port, rtp=rtp, rtcp=rtcp, clock_rate_hz=8000, limit_pps=0)
        )
    return made


async def main(name: str, count: int, core: int) -> None:
    """Install, wait, count."""
    raise_descriptor_limit()
    datapath = FACTORIES[name](Wanted(("0.0.0.0",), SHARD, (core,)))
    datapath.start(Deaf())
    empty, began = rss_kib(os.getpid()), time.perf_counter()
    installed = []
    for number, slot in zip(range(count), SHARD.slots(), strict=False):
        datapath.bind(slot * 8)
        for forward in forwards(slot * 8, number):
            datapath.upsert(forward)
            installed.append(forward.id)
    took = time.perf_counter() - began
    ports = [(slot * 8, slot * 8 + 4) for slot in list(SHARD.slots())[:count]]
    grown = rss_kib(os.getpid()) - empty
    print(json.dumps({"ports": ports, "setup_us": took / count * 1e6, "kib_per_call": grown / count}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    counters = datapath.counters(installed)
    print(json.dumps({"packets": sum(one.packets for one in counters), "lost": sum(one.lost for one in counters)}))
    datapath.close()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
