"""Who is registered over which connection."""

from __future__ import annotations

from pbx_signaling.users.flows import RegisteredFlows
from pbx_sip.address import Flow, HostPort, Transport

A = Flow(Transport.TCP, HostPort("192.0.2.1", 1), "tcp4", 7)
B = A._replace(connection=8)
UDP = Flow(Transport.UDP, HostPort("192.0.2.1", 1), "udp4")


def test_a_broken_connection_gives_its_users_once() -> None:
    flows = RegisteredFlows()
    flows.bind(A, "a@x", 10.0)
    flows.bind(A, "b@x", 20.0)
    flows.bind(B, "a@x", 20.0)
    assert flows.holds(A, 15.0)
    assert not flows.holds(A, 20.0)
    assert flows.broken(A, 15.0) == ["b@x"], "the other ran out"
    assert flows.broken(A, 15.0) == []
    assert len(flows) == 1


def test_udp_is_not_kept_and_the_last_user_takes_the_entry_along() -> None:
    flows = RegisteredFlows()
    flows.bind(UDP, "a@x", 10.0)
    assert len(flows) == 0
    flows.bind(A, "a@x", 10.0)
    flows.unbind(A, "b@x")
    flows.unbind(B, "a@x")
    assert flows.holds(A, 0.0)
    flows.unbind(A, "a@x")
    assert len(flows) == 0
