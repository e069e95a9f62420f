"""The gRPC face of the relay: the batched Session stream, and its unary twins for tools. No decisions
here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

from pbx.relay.v1 import relay_pb2 as pb
from pbx.relay.v1 import relay_pb2_grpc
from pbx_media_relay import events
from pbx_media_relay.api import convert
from pbx_media_relay.api.operations import Operations
from pbx_media_relay.errors import (
    DatapathRefusedError,
    DrainingError,
    NoFreeSlotError,
    NotGrantedError,
    UnknownCallError,
)
from pbx_runtime import errors
from pbx_runtime.batch_server import Handler, Replies, serve_batches

WATCHER_EVENTS_MAX: Final = 10_000
"""Events that a watcher did not read; then its stream ends, so that a stuck tool costs no memory."""
INSTANCE_ID_MAX: Final = 64
CODES: Final[dict[type[Exception], pb.ErrorCode.ValueType]] = {
    NoFreeSlotError: pb.ERROR_CODE_NO_FREE_SLOT,
    DrainingError: pb.ERROR_CODE_DRAINING,
    UnknownCallError: pb.ERROR_CODE_UNKNOWN_CALL,
    NotGrantedError: pb.ERROR_CODE_NOT_GRANTED,
    errors.InvalidArgument: pb.ERROR_CODE_INVALID_ARGUMENT,
    DatapathRefusedError: pb.ERROR_CODE_DATAPATH,
}
Outcome = pb.Result | pb.Event
Context = Any  # grpc.aio.ServicerContext: generic in the stubs only


def error_of(error: Exception) -> pb.Error:
    """Why a command was not carried out."""
    code = next((code for kind, code in CODES.items() if isinstance(error, kind)), pb.ERROR_CODE_DATAPATH)
    return pb.Error(code=code, detail=str(error))


class _Session:
    """One stream of one signaling instance."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self.instance_id = ""
        self.replies: Replies[Outcome] = Replies(self.response)

    def commands_of(self, request: pb.SessionRequest) -> Iterable[pb.Command]:
        """The commands of a message; the first one must say who speaks."""
        if not self.instance_id:
            if not 0 < len(request.hello.instance_id) <= INSTANCE_ID_MAX:
                raise errors.InvalidArgument("the first request needs a hello with an instance id")
            self._operations.connect(request.hello)
            self.instance_id = request.hello.instance_id
            self.replies.send(pb.SessionResponse(status=self._operations.status()))
        return request.commands

    def response(self, outcomes: list[Outcome]) -> pb.SessionResponse:
        """Answers as they leave. A relay that is killed right after one must know the call of which it speaks."""
        self._operations.flush()
        return _response(outcomes)

    def handle(self, command: pb.Command, replies: Replies[Outcome]) -> Outcome | None:
        """Carry out one command, at once; answer what somebody waits for, and the rest lazily."""
        result = pb.Result(id=command.id)
        if self._carry_out(command, result):
            return result
        replies.reply_lazily(result)
        return None

    def _carry_out(self, command: pb.Command, result: pb.Result) -> bool:
        """Whether anybody waits to hear the result: nobody does for endpoints that were all taken over."""
        operations = self._operations
        match command.WhichOneof("command"):
            case "allocate":
                result.allocate.CopyFrom(operations.allocate(command.allocate, self.instance_id))
            case "update":
                result.update.CopyFrom(operations.update(command.update, self.instance_id))
                return bool(result.update.refused)
            case "release":
                result.release.CopyFrom(operations.release(command.release))
                return not command.release.quiet
            case "grant":
                result.grant.CopyFrom(operations.grant(command.grant, self.instance_id))
            case "begin":
                result.begin.CopyFrom(operations.begin(command.begin, self.instance_id))
                return bool(result.begin.refused)
            case "give_back":
                result.give_back.CopyFrom(operations.give_back(command.give_back, self.instance_id))
                return False
            case "query":
                result.query.CopyFrom(operations.query(command.query))
            case _:
                raise errors.InvalidArgument("a command without an operation")
        return True


def _failed(command: pb.Command, error: Exception) -> Outcome:
    return pb.Result(id=command.id, error=error_of(error))


def _response(outcomes: list[Outcome]) -> pb.SessionResponse:
    return pb.SessionResponse(
        results=[outcome for outcome in outcomes if isinstance(outcome, pb.Result)],
        events=[outcome for outcome in outcomes if isinstance(outcome, pb.Event)],
    )


class RelayServicer(relay_pb2_grpc.RelayServiceServicer):
    """pbx.relay.v1.RelayService."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self._sessions: dict[str, set[_Session]] = {}
        self._watchers: set[asyncio.Queue[pb.Event | None]] = set()
        self._told: pb.RelayStatus | None = None
        self._closed = asyncio.Event()

    def tell(self, event: events.RelayEvent) -> None:
        """Pass an event to the instance whose call it is (to all, where it is of the relay), and to
        watchers."""
        message = convert.event_message(event, self._operations.civil)
        if message is None:
            return
        if isinstance(event, events.Draining):
            sessions = [session for group in self._sessions.values() for session in group]
        else:
            sessions = list(self._sessions.get(getattr(event, "instance_id", ""), ()))
        for session in sessions:
            session.replies.reply(message)
        overrun = []
        for queue in self._watchers:
            if queue.qsize() < WATCHER_EVENTS_MAX:
                queue.put_nowait(message)
            else:
                queue.put_nowait(None)
                overrun.append(queue)
        self._watchers.difference_update(overrun)

    def tell_status(self) -> bool:
        """Send the state to every session where it changed; to be called at most once a second."""
        status = self._operations.status()
        if status == self._told:
            return False
        self._told = status
        for group in self._sessions.values():
            for session in group:
                session.replies.send(pb.SessionResponse(status=status))
        return True

    def close(self) -> None:
        """End every stream, so that clients turn to another relay at once."""
        self._closed.set()
        for queue in self._watchers:
            queue.put_nowait(None)

    async def Session(  # type: ignore[override]  # grpc.aio takes a coroutine that writes, too
        self, requests: AsyncIterator[pb.SessionRequest], context: Context
    ) -> None:
        """See the contract."""
        session = _Session(self._operations)
        handler = Handler(
            commands_of=lambda request: self._joined(session, request),
            handle=session.handle,
            make_response=session.response,
            failed=_failed,
        )
        serving = asyncio.ensure_future(serve_batches(requests, context, handler, session.replies))
        closed = asyncio.ensure_future(self._closed.wait())
        try:
            await asyncio.wait({serving, closed}, return_when=asyncio.FIRST_COMPLETED)
            if not serving.done():
                raise errors.Unavailable("the relay ends")
            serving.result()
        finally:
            serving.cancel()
            closed.cancel()
            await asyncio.wait({serving, closed})
            self._leave(session)

    def _joined(self, session: _Session, request: pb.SessionRequest) -> Iterable[pb.Command]:
        known = session.instance_id
        commands = session.commands_of(request)
        if not known:
            self._sessions.setdefault(session.instance_id, set()).add(session)
        return commands

    def _leave(self, session: _Session) -> None:
        if not session.instance_id:
            return
        group = self._sessions[session.instance_id]
        group.discard(session)
        if not group:
            del self._sessions[session.instance_id]
        self._operations.disconnect(session.instance_id)

    async def Allocate(self, request: pb.AllocateRequest, context: Context) -> pb.AllocateResponse:
        """See the contract."""
        answer = self._operations.allocate(request, "")
        self._operations.flush()
        return answer

    async def Update(self, request: pb.UpdateRequest, context: Context) -> pb.UpdateResponse:
        """See the contract."""
        answer = self._operations.update(request, "")
        self._operations.flush()
        return answer

    async def Release(self, request: pb.ReleaseRequest, context: Context) -> pb.ReleaseResponse:
        """See the contract."""
        answer = self._operations.release(request)
        self._operations.flush()
        return answer

    async def Query(self, request: pb.QueryRequest, context: Context) -> pb.QueryResponse:
        """See the contract."""
        return self._operations.query(request)

    async def Watch(self, request: pb.WatchRequest, context: Context) -> AsyncIterator[pb.WatchResponse]:
        """See the contract."""
        queue: asyncio.Queue[pb.Event | None] = asyncio.Queue()
        self._watchers.add(queue)
        try:
            while (event := await queue.get()) is not None:
                yield pb.WatchResponse(event=event)
            if queue not in self._watchers:
                raise errors.ResourceExhausted(f"{WATCHER_EVENTS_MAX} events were not read")
        finally:
            self._watchers.discard(queue)

    async def GetStatus(self, request: pb.GetStatusRequest, context: Context) -> pb.GetStatusResponse:
        """See the contract."""
        return pb.GetStatusResponse(status=self._operations.status(), calls=self._operations.calls())

    async def Drain(self, request: pb.DrainRequest, context: Context) -> pb.DrainResponse:
        """See the contract."""
        return self._operations.drain(request)

    async def StartRecording(self, request: pb.StartRecordingRequest, context: Context) -> pb.StartRecordingResponse:
        """See the contract."""
        return self._operations.start_recording(request)

    async def StopRecording(self, request: pb.StopRecordingRequest, context: Context) -> pb.StopRecordingResponse:
        """See the contract."""
        return self._operations.stop_recording(request)
