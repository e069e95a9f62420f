"""Requests in, responses out: what the Session stream and the unary calls share. No decisions here."""

from __future__ import annotations

from pbx.relay.v1 import relay_pb2 as pb
from pbx_media_relay.api import convert
from pbx_media_relay.civil import CivilTime
from pbx_media_relay.identity import Identity
from pbx_media_relay.recording.recorder import Recorder
from pbx_media_relay.relay import Relay


class Operations:
    """Requests in, responses out: what the stream and the unary calls share."""

    def __init__(self, relay: Relay, identity: Identity, civil: CivilTime, drain_s: float, recorder: Recorder) -> None:
        self._relay = relay
        self._recorder = recorder
        self._identity = identity
        self._drain_s = drain_s
        self.civil = civil

    def allocate(self, request: pb.AllocateRequest, instance_id: str) -> pb.AllocateResponse:
        """Take a slot."""
        order = convert.order_of(request, instance_id)
        call = self._relay.allocate(order, self.civil.monotonic_ns())
        answer = convert.allocated(call.slot, self._identity.relay_id, self._identity.hosts)
        if call.refused:
            whole, answer = answer, pb.AllocateResponse()
            answer.CopyFrom(whole)
            answer.refused.extend(convert.refused_of(call))
        return answer

    def grant(self, request: pb.GrantRequest, instance_id: str) -> pb.GrantResponse:
        """Give slots ahead of calls."""
        slots = self._relay.grant(instance_id, request.count, self.civil.monotonic_ns())
        return pb.GrantResponse(relay_id=self._identity.relay_id, hosts=self._identity.hosts, slots=slots)

    def begin(self, request: pb.BeginRequest, instance_id: str) -> pb.BeginResponse:
        """Put a call on a granted slot."""
        order = convert.order_of(request.call, instance_id)
        call = self._relay.begin(order, request.slot, self.civil.monotonic_ns())
        return pb.BeginResponse(refused=convert.refused_of(call))

    def give_back(self, request: pb.ReturnRequest, instance_id: str) -> pb.ReturnResponse:
        """Take granted slots back."""
        self._relay.give_back(instance_id, request.slots, self.civil.monotonic_ns())
        return pb.ReturnResponse()

    def update(self, request: pb.UpdateRequest, instance_id: str) -> pb.UpdateResponse:
        """Tell endpoints."""
        streams, refused = convert.streams_of(request.endpoints)
        call = self._relay.update(request.call_id, instance_id, streams, self.civil.monotonic_ns(), refused)
        return pb.UpdateResponse(refused=convert.refused_of(call))

    def release(self, request: pb.ReleaseRequest) -> pb.ReleaseResponse:
        """Give a slot back."""
        reports = self._relay.release(request.call_id, self.civil.monotonic_ns())
        if request.quiet:
            return pb.ReleaseResponse()
        return pb.ReleaseResponse(streams=[convert.statistics(report, self.civil) for report in reports])

    def query(self, request: pb.QueryRequest) -> pb.QueryResponse:
        """Statistics of one call, or of all."""
        if request.call_id:
            found = [self._relay.query(request.call_id)]
        else:
            found = [(call, self._relay.reports(call)) for call in self._relay.calls]
        return pb.QueryResponse(calls=[convert.call_statistics(*one, self.civil) for one in found])

    def status(self) -> pb.RelayStatus:
        """State and slots."""
        identity = self._identity
        return convert.status_message(self._relay.status, identity.relay_id, identity.datapath, identity.hosts)

    def calls(self) -> int:
        """Calls that hold a slot."""
        return len(self._relay.calls)

    def drain(self, request: pb.DrainRequest) -> pb.DrainResponse:
        """Take no new calls."""
        now_ns = self.civil.monotonic_ns()
        deadline_s = request.deadline_s or self._drain_s
        self._relay.drain(now_ns + int(deadline_s * 1e9), now_ns)
        return pb.DrainResponse(calls=self.calls())

    def start_recording(self, request: pb.StartRecordingRequest) -> pb.StartRecordingResponse:
        """Begin to record a call; its packets are copied only once there is a file for them."""
        call, _ = self._relay.query(request.call_id)
        path = self._recorder.start(call, self.civil.monotonic_ns())
        self._relay.tap(request.call_id)
        return pb.StartRecordingResponse(path=str(path))

    def stop_recording(self, request: pb.StopRecordingRequest) -> pb.StopRecordingResponse:
        """End a recording."""
        return pb.StopRecordingResponse(stopped=self._relay.untap(request.call_id, self.civil.monotonic_ns()))

    def flush(self) -> None:
        """What was done so far outlives this process when this returns."""
        self._relay.flush()

    def connect(self, hello: pb.Hello) -> None:
        """A stream of an instance stands."""
        self._relay.connect(hello.instance_id, hello.lease_s, self.civil.monotonic_ns())

    def disconnect(self, instance_id: str) -> None:
        """A stream of an instance ended."""
        self._relay.leases.disconnect(instance_id, self.civil.monotonic_ns())
