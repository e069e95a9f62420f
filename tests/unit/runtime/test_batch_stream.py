"""The batched stream, both ends: over real gRPC for the whole of it, over the fake for its corners."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc.aio
import pytest

from pbx.relay.v1 import relay_pb2, relay_pb2_grpc
from pbx_runtime import errors
from pbx_runtime.batch_fake import FakeStream
from pbx_runtime.batch_server import Handler, Replies, serve_batches
from pbx_runtime.batch_stream import BatchClient, Codec
from pbx_runtime.grpc_channel import open_channel
from support.eventually import eventually

CODEC: Codec[relay_pb2.Command, relay_pb2.Result] = Codec(
    make_request=lambda commands: relay_pb2.SessionRequest(commands=commands),
    results_of=lambda response: response.results,
)
Handle = Callable[[relay_pb2.Command, Replies[relay_pb2.Result]], Any]


def command(call_id: str) -> relay_pb2.Command:
    return relay_pb2.Command(allocate=relay_pb2.AllocateRequest(call_id=call_id))


def result(to: relay_pb2.Command) -> relay_pb2.Result:
    return relay_pb2.Result(id=to.id, allocate=relay_pb2.AllocateResponse(relay_id=to.allocate.call_id))


def failed(to: relay_pb2.Command, error: Exception) -> relay_pb2.Result:
    return relay_pb2.Result(id=to.id, error=relay_pb2.Error(detail=str(error)))


def handler(handle: Handle) -> Handler[relay_pb2.Command, relay_pb2.Result]:
    return Handler(
        commands_of=lambda request: request.commands,
        handle=handle,
        make_response=lambda results: relay_pb2.SessionResponse(results=results),
        failed=failed,
    )


def at_once(to: relay_pb2.Command, replies: Replies[relay_pb2.Result]) -> relay_pb2.Result:
    return result(to)


async def by_task(to: relay_pb2.Command, replies: Replies[relay_pb2.Result]) -> relay_pb2.Result:
    await asyncio.sleep(0)
    return result(to)


def later(to: relay_pb2.Command, replies: Replies[relay_pb2.Result]) -> None:
    asyncio.get_running_loop().call_soon(replies.reply, result(to))


class Pair:
    """A client joined to a handler by fake streams; a new one after each break."""

    def __init__(self, handle: Handle, **codec: Any) -> None:
        self.streams: list[FakeStream] = []
        self.servers: list[asyncio.Future[None]] = []
        self.refuse = False
        self.handler = handler(handle)
        self.client = BatchClient(
            "peer",
            self.open,
            Codec(make_request=CODEC.make_request, results_of=CODEC.results_of, **codec),
        )

    def open(self) -> FakeStream:
        stream = FakeStream()
        if self.refuse:
            stream.break_off()
            return stream
        self.streams.append(stream)
        self.servers.append(asyncio.ensure_future(serve_batches(stream.requests(), stream.context, self.handler)))
        return stream

    async def __aenter__(self) -> Pair:
        self._run = asyncio.ensure_future(self.client.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._run.cancel()
        for task in (self._run, *self.servers):
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def up(self) -> None:
        await eventually(lambda: self.client.is_up)


@pytest.mark.parametrize("handle", [at_once, by_task, later])
async def test_every_command_gets_its_own_result(handle: Handle) -> None:
    async with Pair(handle) as pair:
        results = await asyncio.gather(*[pair.client.submit(command(str(n)), timeout_s=60.0) for n in range(1200)])
        assert [r.allocate.relay_id for r in results] == [str(n) for n in range(1200)]
        assert pair.client.in_flight == 0


async def test_a_turn_is_one_message_each_way() -> None:
    async with Pair(at_once) as pair:
        await pair.up()
        await asyncio.gather(*[pair.client.submit(command(str(n))) for n in range(100)])
        stream = pair.streams[0]
        assert [len(request.commands) for request in stream.requests_seen] == [100]
        assert [len(response.results) for response in stream.responses_seen] == [100]


async def test_what_is_in_no_hurry_goes_with_what_is() -> None:
    async with Pair(at_once) as pair:
        await pair.client.submit(command("first"))
        waiting = pair.client.submit(command("idle"), urgent=False)
        for _ in range(3):
            await asyncio.sleep(0)
        assert len(pair.streams[0].requests_seen) == 1, "it waits"
        await asyncio.gather(pair.client.submit(command("urgent")), waiting)
        assert len(pair.streams[0].requests_seen) == 2
        names = [each.allocate.call_id for each in pair.streams[0].requests_seen[1].commands]
        assert names == ["idle", "urgent"]


async def test_what_is_in_no_hurry_goes_alone_after_a_while_again_and_again() -> None:
    async with Pair(at_once) as pair:
        for number in range(3):
            both = [pair.client.submit(command(f"{number}.{n}"), urgent=False) for n in range(2)]
            await asyncio.gather(*both)
        assert [len(request.commands) for request in pair.streams[0].requests_seen] == [2, 2, 2]


async def test_what_is_in_no_hurry_fails_with_the_stream_and_does_not_hold_up_the_next() -> None:
    async with Pair(at_once) as pair:
        await pair.client.submit(command("first"))
        lost = pair.client.submit(command("idle"), urgent=False)
        pair.streams[0].break_off()
        with pytest.raises(errors.Unavailable):
            await lost
        await eventually(lambda: pair.client.is_up)
        assert (await pair.client.submit(command("next"), urgent=False)).allocate.relay_id == "next"


def in_no_hurry(to: relay_pb2.Command, replies: Replies[relay_pb2.Result]) -> None:
    replies.reply_lazily(result(to))


async def test_a_result_that_nobody_waits_for_comes_after_a_while_with_the_others() -> None:
    async with Pair(in_no_hurry) as pair:
        await pair.up()
        first = pair.client.submit(command("first"))
        await eventually(lambda: pair.streams[0].requests_seen)
        second = pair.client.submit(command("second"))
        await asyncio.gather(first, second)
        assert [len(request.commands) for request in pair.streams[0].requests_seen] == [1, 1]
        assert [len(response.results) for response in pair.streams[0].responses_seen] == [2]


async def test_a_result_that_nobody_waits_for_goes_with_one_that_somebody_waits_for() -> None:
    def handle(to: relay_pb2.Command, replies: Replies[relay_pb2.Result]) -> relay_pb2.Result | None:
        return in_no_hurry(to, replies) if to.allocate.call_id == "idle" else result(to)

    async with Pair(handle) as pair:
        await pair.up()
        idle = pair.client.submit(command("idle"))
        await eventually(lambda: pair.streams[0].requests_seen)
        await pair.client.submit(command("urgent"))
        assert idle.done()
        assert [len(response.results) for response in pair.streams[0].responses_seen] == [2]


async def test_a_result_that_nobody_waits_for_does_not_outlive_its_stream() -> None:
    async with Pair(in_no_hurry) as pair:
        await pair.up()
        lost = pair.client.submit(command("lost"))
        await eventually(lambda: pair.streams[0].requests_seen)
        pair.streams[0].break_off()
        with pytest.raises(errors.Unavailable):
            await lost
        await eventually(lambda: pair.client.is_up)
        assert (await pair.client.submit(command("next"))).allocate.relay_id == "next"


async def test_nothing_wakes_up_while_commands_are_answered_in_time() -> None:
    async with Pair(at_once) as pair:
        await pair.up()
        looks = 0
        sweep = pair.client._sweep

        def look() -> None:
            nonlocal looks
            looks += 1
            sweep()

        pair.client._sweep = look  # type: ignore[method-assign]
        for number in range(20):
            await pair.client.submit(command(str(number)), urgent=False, timeout_s=60.0)
        assert looks == 0


async def test_an_earlier_deadline_than_that_of_a_command_before_is_kept() -> None:
    async with Pair(lambda to, replies: None) as pair:
        await pair.up()
        patient = pair.client.submit(command("patient"), timeout_s=60.0)
        with pytest.raises(errors.DeadlineExceeded):
            await pair.client.submit(command("hasty"), timeout_s=0.1)
        assert not patient.done()
        patient.cancel()


async def test_a_callback_is_called_once_and_never_inside_submit() -> None:
    async with Pair(at_once) as pair:
        seen: list[Any] = []
        done = asyncio.Event()

        def callback(answer: relay_pb2.Result | None, error: errors.ServiceError | None) -> None:
            seen.append((answer.allocate.relay_id if answer else None, error))
            done.set()

        pair.client.submit(command("x"), callback)
        assert seen == []
        await done.wait()
        assert seen == [("x", None)]


async def test_a_handler_that_raises_answers_an_error_and_the_stream_goes_on() -> None:
    def handle(to: relay_pb2.Command, replies: Replies[relay_pb2.Result]) -> relay_pb2.Result:
        if to.allocate.call_id == "bad":
            raise errors.NotFound("no such thing")
        return result(to)

    async with Pair(handle) as pair:
        bad, good = await asyncio.gather(*map(pair.client.submit, (command("bad"), command("good"))))
        assert bad.error.detail == "no such thing"
        assert good.allocate.relay_id == "good"


async def test_no_result_in_time_is_a_deadline_and_a_late_result_is_dropped() -> None:
    held: list[Callable[[], None]] = []

    def handle(to: relay_pb2.Command, replies: Replies[relay_pb2.Result]) -> None:
        held.append(lambda: replies.reply(result(to)))

    async with Pair(handle) as pair:
        with pytest.raises(errors.DeadlineExceeded):
            await pair.client.submit(command("slow"), timeout_s=0.05)
        held[0]()
        waiting = pair.client.submit(command("next"))
        await eventually(lambda: len(held) == 2)
        held[1]()
        assert (await waiting).allocate.relay_id == "next"


async def test_a_command_that_timed_out_before_it_was_written_is_never_sent() -> None:
    pair = Pair(at_once)
    with pytest.raises(errors.DeadlineExceeded):
        await pair.client.submit(command("given up"), timeout_s=0.01)
    kept = pair.client.submit(command("kept"))
    async with pair:
        assert (await kept).allocate.relay_id == "kept"
        seen = [c.allocate.call_id for request in pair.streams[0].requests_seen for c in request.commands]
        assert seen == ["kept"]


async def test_a_peer_that_falls_silent_is_left_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pbx_runtime.batch_stream.STALL_S", 0.05)
    never: Handle = lambda to, replies: None  # noqa: E731
    async with Pair(never) as pair:
        await pair.up()
        with pytest.raises((errors.DeadlineExceeded, errors.Unavailable)):
            await pair.client.submit(command("x"), timeout_s=0.1)
        await eventually(lambda: len(pair.streams) == 2 and pair.client.is_up)


async def test_a_peer_that_answers_others_is_not_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pbx_runtime.batch_stream.STALL_S", 0.2)

    def handle(to: relay_pb2.Command, replies: Replies[relay_pb2.Result]) -> relay_pb2.Result | None:
        return None if to.allocate.call_id == "lost" else result(to)

    async with Pair(handle) as pair:
        lost = [pair.client.submit(command("lost"), timeout_s=0.05) for _ in range(3)]
        for _ in range(20):
            await pair.client.submit(command("answered"))
        await asyncio.gather(*lost, return_exceptions=True)
        assert len(pair.streams) == 1
        assert pair.client.is_up


async def test_a_batch_that_cannot_be_made_fails_its_commands_and_not_the_client() -> None:
    async with Pair(at_once) as pair:
        await pair.up()
        good, pair.client._codec = pair.client._codec, dataclasses.replace(CODEC, make_request=lambda commands: 1 / 0)
        with pytest.raises(errors.Unavailable, match="ZeroDivisionError"):
            await pair.client.submit(command("x"))
        pair.client._codec = good
        await pair.up()
        assert (await pair.client.submit(command("y"))).allocate.relay_id == "y"


async def test_a_broken_stream_fails_what_is_in_flight_and_comes_back() -> None:
    states: list[bool] = []
    never: Handle = lambda to, replies: None  # noqa: E731
    async with Pair(never, on_state=states.append) as pair:
        await pair.up()
        waiting = [pair.client.submit(command(str(n))) for n in range(3)]
        await asyncio.sleep(0.01)
        pair.handler = handler(at_once)
        pair.streams[0].break_off()
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(answer) for answer in answers] == [errors.Unavailable] * 3
        await pair.up()
        assert (await pair.client.submit(command("again"))).allocate.relay_id == "again"
        assert states == [True, False, True]


async def test_while_the_peer_is_away_commands_fail_at_once() -> None:
    async with Pair(at_once) as pair:
        await pair.up()
        pair.refuse = True
        pair.streams[0].break_off()
        await eventually(lambda: not pair.client.is_up)
        before = asyncio.get_running_loop().time()
        with pytest.raises(errors.Unavailable):
            await pair.client.submit(command("y"))
        assert asyncio.get_running_loop().time() - before < 0.5


async def test_commands_before_the_first_connection_wait_for_it() -> None:
    pair = Pair(at_once)
    early = pair.client.submit(command("early"))
    async with pair:
        assert (await early).allocate.relay_id == "early"


async def test_hello_is_the_first_message_of_every_stream() -> None:
    def hello() -> relay_pb2.SessionRequest:
        return relay_pb2.SessionRequest(hello=relay_pb2.Hello(instance_id="i1"))

    async with Pair(at_once, hello=hello) as pair:
        await pair.client.submit(command("a"))
        pair.streams[0].break_off()
        await asyncio.sleep(0.01)
        await pair.up()
        await pair.client.submit(command("b"))
        for stream in pair.streams:
            assert stream.requests_seen[0].hello.instance_id == "i1"


async def test_the_number_in_flight_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pbx_runtime.batch_stream.IN_FLIGHT_MAX", 2)
    async with Pair(at_once) as pair:
        futures = [pair.client.submit(command(str(n))) for n in range(3)]
        answers = await asyncio.gather(*futures, return_exceptions=True)
        assert isinstance(answers[2], errors.ResourceExhausted)
        assert not any(isinstance(answer, Exception) for answer in answers[:2])


async def test_a_peer_that_takes_no_results_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pbx_runtime.batch_server.UNSENT_MAX", 10)
    stream = FakeStream()
    replies: Replies[relay_pb2.Result] = Replies(lambda results: relay_pb2.SessionResponse(results=results))
    serving = asyncio.ensure_future(serve_batches(stream.requests(), stream.context, handler(at_once), replies))
    await stream.wait_for_connection()
    for number in range(11):
        replies.reply(relay_pb2.Result(id=number))
    with pytest.raises(errors.ResourceExhausted):
        await serving
    replies.reply(relay_pb2.Result(id=99))  # after the end: dropped, not kept


async def test_events_reach_on_response() -> None:
    seen: list[str] = []

    def on_response(response: relay_pb2.SessionResponse) -> None:
        seen.extend(event.call_id for event in response.events)

    def handle(to: relay_pb2.Command, replies: Replies[relay_pb2.Result]) -> relay_pb2.Result:
        replies.send(relay_pb2.SessionResponse(events=[relay_pb2.Event(call_id="c1")]))
        return result(to)

    async with Pair(handle, on_response=on_response) as pair:
        await pair.client.submit(command("x"))
        assert seen == ["c1"]


class Servicer(relay_pb2_grpc.RelayServiceServicer):
    def __init__(self, handle: Handle) -> None:
        self.handler = handler(handle)

    async def Session(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]
        await serve_batches(request_iterator, context, self.handler)


@contextlib.asynccontextmanager
async def grpc_server(handle: Handle, port: int = 0) -> AsyncIterator[tuple[grpc.aio.Server, int]]:
    server = grpc.aio.server()
    relay_pb2_grpc.add_RelayServiceServicer_to_server(Servicer(handle), server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield server, bound
    finally:
        await server.stop(None)


async def running(client: BatchClient[Any, Any], body: Callable[[], Awaitable[None]]) -> None:
    task = asyncio.ensure_future(client.run())
    try:
        await body()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_over_real_grpc_and_through_a_restart_of_the_server() -> None:
    async with grpc_server(at_once) as (_, port):
        channel = open_channel(f"127.0.0.1:{port}")
        stub = relay_pb2_grpc.RelayServiceStub(channel)
        client = BatchClient("relay", lambda: stub.Session(), CODEC)  # type: ignore[call-arg, arg-type, return-value]
        task = asyncio.ensure_future(client.run())
        results = await asyncio.gather(*[client.submit(command(str(n))) for n in range(700)])
        assert [r.allocate.relay_id for r in results] == [str(n) for n in range(700)]
    await eventually(lambda: not client.is_up)
    with pytest.raises(errors.Unavailable):
        await client.submit(command("x"))
    async with grpc_server(by_task, port):
        await eventually(lambda: client.is_up)
        assert (await client.submit(command("again"))).allocate.relay_id == "again"
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await channel.close()
