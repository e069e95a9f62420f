"""Every cell of the four machines against the figures of RFC 3261 and 6026, over UDP and TCP."""

from __future__ import annotations

from typing import Any

import pytest

from pbx_sip.address import Flow
from pbx_sip.message.message import Request, Response
from pbx_sip.transaction import client as c
from pbx_sip.transaction import invite_client as ic
from pbx_sip.transaction import invite_server as i
from pbx_sip.transaction import server as s
from pbx_sip.transaction.events import FailureCause
from pbx_sip.transaction.machine import Machine
from pbx_sip.transaction.timers import Timers
from support.sip_messages import TCP, UDP, request, response


class FakeHost:
    """Records what a machine does, and its timers as (signal, seconds)."""

    def __init__(self) -> None:
        self.timers = Timers()
        self.retransmissions = 0
        self.did: list[str] = []
        self.set: dict[int, tuple[int, float]] = {}
        self._handles = 0
        self.cancels: list[Request] = []

    def send(self, machine: Machine, data: bytes) -> None:
        assert data
        self.did.append("send")

    def deliver(self, machine: Machine, response: Response) -> None:
        self.did.append("deliver")

    def deliver_ack(self, request: Request) -> None:
        self.did.append("ack")

    def fail(self, machine: Machine, cause: FailureCause) -> None:
        self.did.append(cause.name.lower())

    def schedule(self, machine: Machine, signal: int, after_s: float) -> int:
        self._handles += 1
        self.set[self._handles] = (int(signal), after_s)
        return self._handles

    def unschedule(self, handle: int) -> None:
        self.set.pop(handle, None)

    def send_cancel(self, machine: Machine, request: Request) -> None:
        self.cancels.append(request)
        self.did.append("cancel")

    def remove(self, machine: Machine) -> None:
        assert self.set == {}
        self.did.append("remove")

    @property
    def running(self) -> list[tuple[int, float]]:
        """The timers that run."""
        return sorted(self.set.values())


INVITE, BYE = request("INVITE"), request("BYE", to_tag="bob-1", cseq=2)
OWNER = object()


def invite_client(flow: Flow) -> tuple[ic.InviteClient, FakeHost]:
    host, machine = FakeHost(), ic.InviteClient(("b", "INVITE"), flow, OWNER, INVITE)
    machine.start(host)
    return machine, host


def client(flow: Flow) -> tuple[c.Client, FakeHost]:
    host, machine = FakeHost(), c.Client(("b", "BYE"), flow, OWNER, BYE)
    machine.start(host)
    return machine, host


def invite_server(flow: Flow) -> tuple[i.InviteServer, FakeHost]:
    host, machine = FakeHost(), i.InviteServer(("b", "INVITE", "h"), flow)
    machine.start(host)
    machine.owner = OWNER
    return machine, host


def server(flow: Flow) -> tuple[s.Server, FakeHost]:
    host, machine = FakeHost(), s.Server(("b", "BYE", "h"), flow)
    machine.start(host)
    machine.owner = OWNER
    return machine, host


GIVEN: dict[type, dict[int, Any]] = {
    ic.InviteClient: {
        ic.Signal.PROVISIONAL: response(INVITE, 180),
        ic.Signal.SUCCESS: response(INVITE, 200),
        ic.Signal.FAILURE: response(INVITE, 486),
    },
    c.Client: {c.Signal.PROVISIONAL: response(BYE, 100), c.Signal.FINAL: response(BYE, 200)},
    i.InviteServer: {
        i.Signal.REQUEST: INVITE,
        i.Signal.ACK: request("ACK"),
        i.Signal.SEND_PROVISIONAL: response(INVITE, 180),
        i.Signal.SEND_SUCCESS: response(INVITE, 200),
        i.Signal.SEND_FAILURE: response(INVITE, 486),
    },
    s.Server: {
        s.Signal.REQUEST: BYE,
        s.Signal.SEND_PROVISIONAL: response(BYE, 100),
        s.Signal.SEND_FINAL: response(BYE, 200),
    },
}
"""What a signal carries."""

# --- the figures: (signals that lead to the state, signal) -> (next state, what is done); all else is nothing

A, B, D, M = ic.Signal.TIMER_A, ic.Signal.TIMER_B, ic.Signal.TIMER_D, ic.Signal.TIMER_M
IS, IE = ic.State, ic.Signal
INVITE_CLIENT = {
    IS.CALLING: {
        IE.PROVISIONAL: (IS.PROCEEDING, "deliver"),
        IE.SUCCESS: (IS.ACCEPTED, "deliver"),
        IE.FAILURE: (IS.COMPLETED, "send deliver"),
        IE.TIMER_A: (IS.CALLING, "send"),
        IE.TIMER_B: (IS.TERMINATED, "timeout remove"),
        IE.TRANSPORT_ERROR: (IS.TERMINATED, "transport remove"),
    },
    IS.PROCEEDING: {
        IE.PROVISIONAL: (IS.PROCEEDING, "deliver"),
        IE.SUCCESS: (IS.ACCEPTED, "deliver"),
        IE.FAILURE: (IS.COMPLETED, "send deliver"),
        IE.CANCEL: (IS.PROCEEDING, "cancel"),
        IE.TIMER_C: (IS.PROCEEDING, "cancel"),
        IE.TIMER_CANCEL: (IS.TERMINATED, "timeout remove"),
        IE.TRANSPORT_ERROR: (IS.TERMINATED, "transport remove"),
    },
    IS.ACCEPTED: {IE.SUCCESS: (IS.ACCEPTED, "deliver"), IE.TIMER_M: (IS.TERMINATED, "remove")},
    IS.COMPLETED: {
        IE.FAILURE: (IS.COMPLETED, "send"),
        IE.TIMER_D: (IS.TERMINATED, "remove"),
        IE.TRANSPORT_ERROR: (IS.TERMINATED, "remove"),
    },
    IS.TERMINATED: {},
}
CS, CE = c.State, c.Signal
CLIENT = {
    CS.TRYING: {
        CE.PROVISIONAL: (CS.PROCEEDING, "deliver"),
        CE.FINAL: (CS.COMPLETED, "deliver"),
        CE.TIMER_E: (CS.TRYING, "send"),
        CE.TIMER_F: (CS.TERMINATED, "timeout remove"),
        CE.TRANSPORT_ERROR: (CS.TERMINATED, "transport remove"),
    },
    CS.PROCEEDING: {
        CE.PROVISIONAL: (CS.PROCEEDING, "deliver"),
        CE.FINAL: (CS.COMPLETED, "deliver"),
        CE.TIMER_E: (CS.PROCEEDING, "send"),
        CE.TIMER_F: (CS.TERMINATED, "timeout remove"),
        CE.TRANSPORT_ERROR: (CS.TERMINATED, "transport remove"),
    },
    CS.COMPLETED: {CE.TIMER_K: (CS.TERMINATED, "remove"), CE.TRANSPORT_ERROR: (CS.TERMINATED, "remove")},
    CS.TERMINATED: {},
}
S, E = i.State, i.Signal
INVITE_SERVER = {
    S.PROCEEDING: {
        E.REQUEST: (S.PROCEEDING, "send"),
        E.SEND_PROVISIONAL: (S.PROCEEDING, "send"),
        E.SEND_SUCCESS: (S.ACCEPTED, "send"),
        E.SEND_FAILURE: (S.COMPLETED, "send"),
        E.TRANSPORT_ERROR: (S.TERMINATED, "transport remove"),
    },
    S.ACCEPTED: {
        E.ACK: (S.ACCEPTED, "ack"),
        E.SEND_SUCCESS: (S.ACCEPTED, "send"),
        E.TIMER_L: (S.TERMINATED, "remove"),
    },
    S.COMPLETED: {
        E.REQUEST: (S.COMPLETED, "send"),
        E.ACK: (S.CONFIRMED, ""),
        E.TIMER_G: (S.COMPLETED, "send"),
        E.TIMER_H: (S.TERMINATED, "timeout remove"),
        E.TRANSPORT_ERROR: (S.TERMINATED, "transport remove"),
    },
    S.CONFIRMED: {E.TIMER_I: (S.TERMINATED, "remove"), E.TRANSPORT_ERROR: (S.TERMINATED, "remove")},
    S.TERMINATED: {},
}
NS, NE = s.State, s.Signal
SERVER = {
    NS.TRYING: {
        NE.SEND_PROVISIONAL: (NS.PROCEEDING, "send"),
        NE.SEND_FINAL: (NS.COMPLETED, "send"),
        NE.TIMER_UNANSWERED: (NS.TERMINATED, "timeout remove"),
        NE.TRANSPORT_ERROR: (NS.TERMINATED, "transport remove"),
    },
    NS.PROCEEDING: {
        NE.REQUEST: (NS.PROCEEDING, "send"),
        NE.SEND_PROVISIONAL: (NS.PROCEEDING, "send"),
        NE.SEND_FINAL: (NS.COMPLETED, "send"),
        NE.TIMER_UNANSWERED: (NS.TERMINATED, "timeout remove"),
        NE.TRANSPORT_ERROR: (NS.TERMINATED, "transport remove"),
    },
    NS.COMPLETED: {
        NE.REQUEST: (NS.COMPLETED, "send"),
        NE.TIMER_J: (NS.TERMINATED, "remove"),
        NE.TRANSPORT_ERROR: (NS.TERMINATED, "remove"),
    },
    NS.TERMINATED: {},
}

ROADS: dict[Any, list[Any]] = {
    (ic.InviteClient, IS.CALLING): [],
    (ic.InviteClient, IS.PROCEEDING): [IE.PROVISIONAL],
    (ic.InviteClient, IS.ACCEPTED): [IE.SUCCESS],
    (ic.InviteClient, IS.COMPLETED): [IE.FAILURE],
    (ic.InviteClient, IS.TERMINATED): [IE.TIMER_B],
    (c.Client, CS.TRYING): [],
    (c.Client, CS.PROCEEDING): [CE.PROVISIONAL],
    (c.Client, CS.COMPLETED): [CE.FINAL],
    (c.Client, CS.TERMINATED): [CE.TIMER_F],
    (i.InviteServer, S.PROCEEDING): [E.SEND_PROVISIONAL],
    (i.InviteServer, S.ACCEPTED): [E.SEND_SUCCESS],
    (i.InviteServer, S.COMPLETED): [E.SEND_FAILURE],
    (i.InviteServer, S.CONFIRMED): [E.SEND_FAILURE, E.ACK],
    (i.InviteServer, S.TERMINATED): [E.SEND_SUCCESS, E.TIMER_L],
    (s.Server, NS.TRYING): [],
    (s.Server, NS.PROCEEDING): [NE.SEND_PROVISIONAL],
    (s.Server, NS.COMPLETED): [NE.SEND_FINAL],
    (s.Server, NS.TERMINATED): [NE.TIMER_UNANSWERED],
}
"""How a machine gets into a state."""

FIGURES = [
    (invite_client, ic.InviteClient, ic.State, ic.Signal, INVITE_CLIENT),
    (client, c.Client, c.State, c.Signal, CLIENT),
    (invite_server, i.InviteServer, i.State, i.Signal, INVITE_SERVER),
    (server, s.Server, s.State, s.Signal, SERVER),
]
CELLS = [
    pytest.param(
        make,
        kind,
        state,
        signal,
        figure[state].get(signal, (state, "")),
        id=f"{kind.__name__}-{state.name}-{signal.name}",
    )
    for make, kind, states, signals, figure in FIGURES
    for state in states
    for signal in signals
]


@pytest.mark.parametrize(("make", "kind", "state", "signal", "expected"), CELLS)
def test_every_cell(make: Any, kind: type, state: Any, signal: Any, expected: tuple[Any, str]) -> None:
    machine, host = make(UDP)
    for step in ROADS[kind, state]:
        machine.step(step, GIVEN[kind].get(step), host)
    assert machine.state == state
    host.did.clear()
    if signal in (getattr(machine, "TRANSPORT_ERROR", None), *GIVEN[kind]) or "TIMER" in signal.name:
        machine.step(signal, GIVEN[kind].get(signal), host)
    else:
        machine.cancel([], host)
    assert (machine.state, " ".join(host.did)) == expected
    if machine.state.name == "TERMINATED":
        assert host.running == []


@pytest.mark.parametrize(("kind", "figure"), [(kind, figure) for _, kind, _, _, figure in FIGURES])
def test_the_table_has_no_other_cell(kind: type[Machine], figure: dict[Any, dict[Any, tuple[Any, str]]]) -> None:
    told = {(state, signal): cell[0] for state, row in figure.items() for signal, cell in row.items()}
    silent = {cell: told.get(cell, cell[0]) for cell in kind.TABLE}
    assert {cell: target for cell, (target, _) in kind.TABLE.items()} == silent
    assert set(told) <= set(kind.TABLE)


# --- zero-length timers


@pytest.mark.parametrize(
    ("make", "kind", "road", "did"),
    [
        (invite_client, ic.InviteClient, [IE.PROVISIONAL, IE.FAILURE], "send deliver send deliver remove"),
        (client, c.Client, [CE.FINAL], "send deliver remove"),
        (invite_server, i.InviteServer, [E.SEND_FAILURE, E.ACK], "send remove"),
        (server, s.Server, [NE.SEND_FINAL], "send remove"),
    ],
)
def test_reliable_transports_end_at_once(make: Any, kind: type, road: list[Any], did: str) -> None:
    machine, host = make(TCP)
    for step in road:
        machine.step(step, GIVEN[kind].get(step), host)
    assert machine.state.name == "TERMINATED"
    assert [word for word in host.did if word != ""][-1] == "remove"
    assert host.running == []
    assert machine.data == b"" or kind is s.Server


@pytest.mark.parametrize(
    ("make", "kind", "flow", "road", "running"),
    [
        (invite_client, ic.InviteClient, UDP, [], [(A, 0.5), (B, 32.0)]),
        (invite_client, ic.InviteClient, TCP, [], [(B, 32.0)]),
        (invite_client, ic.InviteClient, UDP, [IE.PROVISIONAL], [(IE.TIMER_C, 600.0)]),
        (invite_client, ic.InviteClient, UDP, [IE.PROVISIONAL, IE.PROVISIONAL], [(IE.TIMER_C, 600.0)]),
        (invite_client, ic.InviteClient, UDP, [IE.SUCCESS], [(M, 32.0)]),
        (invite_client, ic.InviteClient, TCP, [IE.SUCCESS], [(M, 32.0)]),
        (invite_client, ic.InviteClient, UDP, [IE.FAILURE], [(D, 32.0)]),
        (client, c.Client, UDP, [], [(CE.TIMER_E, 0.5), (CE.TIMER_F, 32.0)]),
        (client, c.Client, TCP, [], [(CE.TIMER_F, 32.0)]),
        (client, c.Client, UDP, [CE.PROVISIONAL], [(CE.TIMER_E, 0.5), (CE.TIMER_F, 32.0)]),
        (client, c.Client, UDP, [CE.FINAL], [(CE.TIMER_K, 5.0)]),
        (invite_server, i.InviteServer, UDP, [], []),
        (invite_server, i.InviteServer, UDP, [E.SEND_SUCCESS], [(E.TIMER_L, 32.0)]),
        (invite_server, i.InviteServer, TCP, [E.SEND_SUCCESS], [(E.TIMER_L, 32.0)]),
        (invite_server, i.InviteServer, UDP, [E.SEND_FAILURE], [(E.TIMER_G, 0.5), (E.TIMER_H, 32.0)]),
        (invite_server, i.InviteServer, TCP, [E.SEND_FAILURE], [(E.TIMER_H, 32.0)]),
        (invite_server, i.InviteServer, UDP, [E.SEND_FAILURE, E.ACK], [(E.TIMER_I, 5.0)]),
        (server, s.Server, UDP, [], [(NE.TIMER_UNANSWERED, 32.0)]),
        (server, s.Server, UDP, [NE.SEND_FINAL], [(NE.TIMER_J, 32.0)]),
    ],
)
def test_timers_of_each_state(
    make: Any, kind: type, flow: Flow, road: list[Any], running: list[tuple[int, float]]
) -> None:
    machine, host = make(flow)
    for step in road:
        machine.step(step, GIVEN[kind].get(step), host)
    assert host.running == sorted(running)


def intervals(make: Any, kind: type, road: list[Any], timer: int, count: int) -> list[float]:
    machine, host = make(UDP)
    for step in road:
        machine.step(step, GIVEN[kind].get(step), host)
    found = []
    for _ in range(count):
        handle = machine.repeat_timer
        found.append(host.set.pop(handle)[1])
        machine.step(timer, None, host)
    return found


def test_intervals_of_repetition() -> None:
    assert intervals(invite_client, ic.InviteClient, [], A, 6) == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0]
    assert intervals(client, c.Client, [], CE.TIMER_E, 6) == [0.5, 1.0, 2.0, 4.0, 4.0, 4.0]
    assert intervals(client, c.Client, [CE.PROVISIONAL], CE.TIMER_E, 3) == [0.5, 4.0, 4.0]
    assert intervals(invite_server, i.InviteServer, [E.SEND_FAILURE], E.TIMER_G, 5) == [0.5, 1.0, 2.0, 4.0, 4.0]


# --- what is kept and what is dropped


def test_lingering_machines_hold_only_what_is_sent_again() -> None:
    machine, host = invite_client(UDP)
    machine.receive(response(INVITE, 180), host)
    assert machine.data == b""
    machine.receive(response(INVITE, 486), host)
    assert (machine.request, machine.owner, machine.data[:4]) == (None, None, b"ACK ")
    accepted, host = invite_client(UDP)
    accepted.receive(response(INVITE, 200), host)
    assert (accepted.request, accepted.data) == (None, b"")
    assert accepted.owner is OWNER
    done, host = client(UDP)
    done.receive(response(BYE, 200), host)
    assert (done.owner, done.data) == (None, b"")
    answered, host = invite_server(UDP)
    answered.respond(response(INVITE, 200), host)
    assert (answered.owner, answered.data) == (None, b"")
    confirmed, host = invite_server(UDP)
    confirmed.respond(response(INVITE, 486), host)
    confirmed.step(E.ACK, request("ACK"), host)
    assert (confirmed.owner, confirmed.data) == (None, b"")
    assert not hasattr(machine, "__dict__")


def test_cancel_waits_for_a_provisional_response_and_goes_once() -> None:
    machine, host = invite_client(UDP)
    machine.cancel([("Reason", "SIP;cause=200")], host)
    assert host.cancels == []
    machine.receive(response(INVITE, 100), host)
    machine.receive(response(INVITE, 180), host)
    machine.cancel([], host)
    [cancel] = host.cancels
    assert cancel.first("Reason") == "SIP;cause=200"
    assert host.running == [(IE.TIMER_CANCEL, 32.0)]


def test_no_cancel_after_a_final_response() -> None:
    machine, host = invite_client(UDP)
    machine.cancel([], host)
    machine.receive(response(INVITE, 200), host)
    assert host.cancels == []


def test_ack_and_cancel_are_built_as_the_rfc_says() -> None:
    invite = request(
        "INVITE",
        cseq=7,
        extra=(("Route", "<sip:p1;lr>"), ("Route", "<sip:p2;lr>"), ("Via", "SIP/2.0/UDP other;branch=z9hG4bKx")),
        body=b"v=0",
    )
    ack = ic.ack_for_failure(invite, response(invite, 486, "bob-9"))
    cancel = ic.cancel_for(invite, [])
    for message in (ack, cancel):
        assert message.uri == invite.uri
        assert message.headers.all("Via") == [invite.top_via]
        assert message.headers.all("Route") == ["<sip:p1;lr>", "<sip:p2;lr>"]
        assert message.call_id == invite.call_id
        assert message.first("From") == invite.first("From")
        assert message.body == b""
    assert (ack.first("CSeq"), ack.to_tag) == ("7 ACK", "bob-9")
    assert (cancel.first("CSeq"), cancel.first("To")) == ("7 CANCEL", invite.first("To"))


def test_repr_tells_state() -> None:
    machine, _ = invite_client(UDP)
    assert "CALLING" in repr(machine)
