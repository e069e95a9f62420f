"""CPU per operation of the runtime's two hot paths: `make bench-runtime`.

Both ends run in processes of their own; what is printed is the caller's user + system CPU time per operation
(`time.process_time`), and the other side's from /proc. `width` operations are started in one turn of the loop.
"""

from __future__ import annotations

import asyncio
import gc
import json
import multiprocessing
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from typing import Any

import uvloop

from support import procfs
from support.redis_server import redis_server

OPERATIONS = 20_000
WIDTHS = (1, 4, 16, 64)


async def rounds(width: int, one_round: Callable[[int], Awaitable[None]]) -> float:
    """CPU microseconds of this process per operation, best of three."""
    figures = []
    for _ in range(3):
        gc.collect()
        before = time.process_time()
        for _ in range(OPERATIONS // width // (4 if width == 1 else 1)):
            await one_round(width)
        done = OPERATIONS // width // (4 if width == 1 else 1) * width
        figures.append((time.process_time() - before) / done * 1e6)
    return round(min(figures), 2)


async def callbacks(width: int, submit: Callable[[Callable[..., None]], None]) -> None:
    """Start `width` operations in one turn and wait for their callbacks."""
    left, done = width, asyncio.get_running_loop().create_future()

    def callback(result: object, error: object) -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set_result(None)

    for _ in range(width):
        submit(callback)
    await done


async def measure_redis(url: str, pid: int) -> dict[str, Any]:
    """PipelinedRedis: GET by callback, and a transaction of two commands."""
    from pbx_runtime.redis_pipe import PipelinedRedis

    client = PipelinedRedis(url)
    task = asyncio.ensure_future(client.run())
    await client.submit("SET", "k", b"x" * 200)
    figures: dict[str, Any] = {}
    for width in WIDTHS:
        figures[f"GET x{width}"] = await rounds(
            width, lambda n: callbacks(n, lambda cb: client.submit("GET", "k", callback=cb))
        )
    commands = [("SET", "k", b"x" * 200, "PX", 60000), ("XADD", "s", "MAXLEN", "~", 1000, "*", "e", b"y" * 200)]
    before = procfs.cpu_seconds([pid])
    figures["transaction of 2 x16"] = await rounds(
        16, lambda n: callbacks(n, lambda cb: client.transaction(commands, cb))
    )
    figures["transaction of 2, server"] = round((procfs.cpu_seconds([pid]) - before) / OPERATIONS / 3 * 1e6, 1)
    task.cancel()
    return figures


def serve(ready: Connection) -> None:
    """A relay that answers at once, in a process of its own."""
    import grpc.aio

    from pbx.relay.v1 import relay_pb2 as pb
    from pbx.relay.v1 import relay_pb2_grpc
    from pbx_runtime.batch_server import Handler, Replies, serve_batches
    from pbx_runtime.grpc_server import OPTIONS

    ports = [pb.StreamPorts(side=pb.SIDE_A, media=pb.MEDIA_AUDIO, rtp_port=30000, rtcp_port=30001)] * 4

    def handle(command: pb.Command, replies: Replies[pb.Result]) -> pb.Result:
        answer = pb.AllocateResponse(relay_id="r", slot=1, hosts=["127.0.0.1"], ports=ports)
        return pb.Result(id=command.id, allocate=answer)

    handler = Handler(
        commands_of=lambda request: request.commands,
        handle=handle,
        make_response=lambda results: pb.SessionResponse(results=results),
        failed=lambda command, error: pb.Result(id=command.id),
    )

    class Servicer(relay_pb2_grpc.RelayServiceServicer):  # two of its methods are enough here
        async def Session(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]
            await serve_batches(request_iterator, context, handler)

        async def Allocate(self, request: Any, context: Any) -> Any:
            return pb.AllocateResponse(relay_id="r", slot=1, hosts=["127.0.0.1"], ports=ports)

    async def run() -> None:
        server = grpc.aio.server(options=OPTIONS)
        relay_pb2_grpc.add_RelayServiceServicer_to_server(Servicer(), server)  # type: ignore[abstract]
        ready.send(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        await server.wait_for_termination()

    uvloop.run(run())


async def measure_stream(port: int, pid: int) -> dict[str, Any]:
    """BatchClient against `serve`, beside unary calls."""
    from pbx.relay.v1 import relay_pb2 as pb
    from pbx.relay.v1 import relay_pb2_grpc
    from pbx_runtime.batch_stream import BatchClient, Codec
    from pbx_runtime.grpc_channel import open_channel

    channel = open_channel(f"127.0.0.1:{port}")
    stub: Any = relay_pb2_grpc.RelayServiceStub(channel)
    codec: Codec[pb.Command, pb.Result] = Codec(
        make_request=lambda commands: pb.SessionRequest(commands=commands), results_of=lambda response: response.results
    )
    client = BatchClient("relay", lambda: stub.Session(), codec)
    task = asyncio.ensure_future(client.run())
    figures: dict[str, Any] = {}

    def submit(callback: Callable[..., None]) -> None:
        client.submit(pb.Command(allocate=pb.AllocateRequest(call_id="c" * 24, instance_id="i")), callback)

    for width in WIDTHS:
        before = procfs.cpu_seconds([pid])
        figures[f"command x{width}"] = await rounds(width, lambda n: callbacks(n, submit))
        done = OPERATIONS // (4 if width == 1 else 1)
        figures[f"command x{width}, server"] = round((procfs.cpu_seconds([pid]) - before) / done / 3 * 1e6, 1)

    async def unary(width: int) -> None:
        await asyncio.gather(*[stub.Allocate(pb.AllocateRequest(call_id="c" * 24)) for _ in range(width)])

    figures["unary x16"] = await rounds(16, unary)
    task.cancel()
    await channel.close(None)
    return figures


def main() -> None:
    """Print both tables and a line of JSON."""
    multiprocessing.set_start_method("spawn")
    figures: dict[str, Any] = {}
    with redis_server("--appendonly", "no") as server:
        assert server.process is not None
        figures["redis"] = uvloop.run(measure_redis(server.url, server.process.pid))
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=serve, args=(theirs,))
    process.start()
    assert process.pid is not None
    figures["stream"] = uvloop.run(measure_stream(ours.recv(), process.pid))
    process.terminate()
    process.join()
    for name, table in figures.items():
        print(f"{name}: CPU us per operation")
        for what, value in table.items():
            print(f"  {what:28} {value}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
