"""Holds calls on a relay until SIGTERM, as a signaling instance does: `python -m support.held_calls ADDRESS COUNT`.

PBX_GRPC_KEY is the key that services share.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from pbx.relay.v1 import relay_pb2 as pb
from pbx_runtime.grpc_channel import open_channel
from pbx_runtime.grpc_credentials import GrpcCredentials
from support.relay_process import Instance


async def main(address: str, count: int) -> None:
    """Take slots, say so, wait, give them back."""
    instance = Instance(
        address, f"hold-{os.getpid()}", 5, open_channel(address, GrpcCredentials(os.environ["PBX_GRPC_KEY"]))
    )
    calls = [f"held-{os.getpid()}-{number}" for number in range(count)]
    taken = 0
    for number, call in enumerate(calls):
        result = await instance.ask(id=number + 1, allocate=pb.AllocateRequest(call_id=call))
        taken += result.WhichOneof("result") == "allocate"
    print(f"holding {taken}", flush=True)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    for number, call in enumerate(calls):
        await instance.ask(id=10_000 + number, release=pb.ReleaseRequest(call_id=call))
    await instance.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
