"""SignalingService: live calls of this instance, and their end (pbx.signaling.v1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import grpc

from pbx.signaling.v1 import signaling_pb2 as pb
from pbx.signaling.v1 import signaling_pb2_grpc
from pbx_signaling.calls.signals import Ordered, Signal
from pbx_signaling.calls.state import State
from pbx_sip.message.text import printable

if TYPE_CHECKING:
    from pbx_signaling.legs.leg import Leg
    from pbx_signaling.users.calls import Calls
    from pbx_signaling.users.entry import Entry

PAGE_DEFAULT: Final = 100
PAGE_MAX: Final = 1000

STATES: Final = {
    State.AUTHENTICATING: pb.CALL_STATE_ROUTING,
    State.ROUTING: pb.CALL_STATE_ROUTING,
    State.ALLOCATING: pb.CALL_STATE_ROUTING,
    State.DIALING: pb.CALL_STATE_DIALING,
    State.RINGING: pb.CALL_STATE_RINGING,
    State.ANSWERED: pb.CALL_STATE_ANSWERED,
    State.TALKING: pb.CALL_STATE_ANSWERED,
}


class SignalingService(signaling_pb2_grpc.SignalingServiceServicer):
    """Serves the table of calls."""

    def __init__(self, calls: Calls, instance: str, signal: Callable[[str, Signal], None]) -> None:
        self._calls = calls
        self._instance = instance
        self._signal = signal

    async def ListCalls(  # the contract's name
        self, request: pb.ListCallsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListCallsResponse:
        """All live calls, oldest first; call ids are ULIDs and sort by time, so the last one is the cursor."""
        size = min(request.page_size or PAGE_DEFAULT, PAGE_MAX)
        matching = sorted(
            call_id
            for call_id, entry in self._calls.table.items()
            if call_id > request.page_token and (not request.user or _takes_part(entry, request.user))
        )
        page = matching[:size]
        more = len(matching) > size
        return pb.ListCallsResponse(
            calls=[self._call(self._calls.table[call_id]) for call_id in page],
            next_page_token=page[-1] if more else "",
        )

    async def GetCall(
        self, request: pb.GetCallRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetCallResponse:
        """One live call; NOT_FOUND where there is none."""
        entry = self._calls.table.get(request.call_id)
        if entry is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no live call {request.call_id!r} on {self._instance}")
        return pb.GetCallResponse(call=self._call(entry))

    async def HangUp(self, request: pb.HangUpRequest, context: grpc.aio.ServicerContext[Any, Any]) -> pb.HangUpResponse:
        """Ends a live call; NOT_FOUND where there is none."""
        if request.call_id not in self._calls.table:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no live call {request.call_id!r} on {self._instance}")
        self._signal(request.call_id, Ordered(printable(request.reason[:128]) or "administrator"))
        return pb.HangUpResponse()

    def _call(self, entry: Entry) -> pb.Call:
        call = entry.call
        slot = call.media.slot
        answered = None
        if call.answered is not None:
            answered = call.started_ms + int((call.answered - call.started) * 1000)
        return pb.Call(
            call_id=call.call_id,
            state=STATES.get(call.state, pb.CALL_STATE_ENDING),
            caller=printable(call.caller or call.claimed.partition("@")[0]),
            callee=printable(call.dialled),
            started_at_ms=call.started_ms,
            answered_at_ms=answered,
            caller_leg=_leg(entry.caller),
            callee_leg=_leg(entry.callee),
            relay_id=slot.relay if slot else "",
            instance_id=self._instance,
        )


def _leg(leg: Leg | None) -> pb.Leg | None:
    if leg is None:
        return None
    return pb.Leg(
        sip_call_id=printable(leg.call_id),
        local_tag=leg.local_tag,
        remote_tag=printable(leg.remote_tag),
        remote_address=str(leg.flow),
        user_agent=printable(leg.remote_user_agent),
    )


def _takes_part(entry: Entry, user: str) -> bool:
    call = entry.call
    return user in (call.caller, call.dialled, call.claimed.partition("@")[0])
