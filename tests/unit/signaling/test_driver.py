"""The driver: steps carried out in order, what is answered at once behind them, one timer."""

from __future__ import annotations

from typing import Any, cast

from pbx_signaling.driver import Driver
from pbx_signaling.users import questions as q
from pbx_signaling.users.step import Ask, Step
from pbx_sip.address import Flow, HostPort, Transport
from support.harness import VirtualClock

FLOW = Flow(Transport.UDP, HostPort("192.0.2.1", 5060), "udp4")


def sends(call_id: str, *data: bytes, asks: tuple[Ask, ...] = (), events: tuple[bytes, ...] = ()) -> Step:
    return Step(call_id, events=events, snapshot=b"", asks=asks, transmits=tuple((each, FLOW) for each in data))


class FakeRouter:
    """Returns what a test lays ready, and notes what it was told."""

    def __init__(self) -> None:
        self.ready: list[list[Step]] = []
        self.told: list[tuple[str, float]] = []
        self.next_timeout: float | None = None

    def receive(self, data: bytes, flow: Flow, now: float) -> list[Step]:
        self.told.append((data.decode(), now))
        return self.ready.pop(0)

    def signal(self, user: object, number: str | int, answer: object, now: float) -> list[Step]:
        self.told.append((f"{number} {answer}", now))
        return self.ready.pop(0)

    def handle_timeout(self, now: float) -> list[Step]:
        self.told.append(("timeout", now))
        self.next_timeout = None
        return []


class Rig:
    """A driver whose questions are answered at once."""

    def __init__(self) -> None:
        self.router, self.clock = FakeRouter(), VirtualClock(10.0)
        self.performed: list[Step] = []
        self.driver = Driver(cast("Any", self.router), self.performed.append, self._ask, self.clock)

    def _ask(self, ask: Ask) -> None:
        self.driver.answered(ask, "yes")


def question(call_id: str) -> Ask:
    return Ask(cast("Any", None), call_id, q.Find("1008@pbx.local"))


def test_what_is_answered_at_once_is_carried_out_behind_the_steps_under_way() -> None:
    rig = Rig()
    rig.router.ready = [[sends("a", b"1", asks=(question("x"),)), sends("b", b"2")], [sends("c", b"3")]]
    rig.driver.received(b"INVITE", FLOW)
    assert [step.call_id for step in rig.performed] == ["a", "b", "c"]
    assert rig.router.told == [("INVITE", 10.0), ("x yes", 10.0)]


def test_steps_of_one_call_behind_each_other_become_one() -> None:
    rig = Rig()
    first = sends("a", b"100", asks=(question("a"),))
    initiated = sends("a", asks=(question("a"),), events=(b"initiated",))
    rig.router.ready = [[first], [initiated], [sends("a", b"INVITE", events=(b"dialing",))]]
    rig.driver.received(b"INVITE", FLOW)
    trying, step = rig.performed
    assert trying is first, "a 100 waits for no record"
    assert [data for data, _ in step.transmits] == [b"INVITE"]
    assert step.events == (b"initiated", b"dialing")


def test_what_is_of_no_call_stays_by_itself() -> None:
    rig = Rig()
    rig.router.ready = [[sends("", b"1"), sends("", b"2")]]
    rig.driver.received(b"OPTIONS", FLOW)
    assert len(rig.performed) == 2


def test_orders_that_wait_for_records_are_not_put_by_the_driver() -> None:
    rig = Rig()
    update = Ask(cast("Any", None), "a", q.Update("a", cast("Any", None), []))
    assert update.waits
    rig.router.ready = [[sends("a", asks=(update,))]]
    rig.driver.received(b"200", FLOW)
    assert rig.performed[0].asks == (update,)
    assert len(rig.router.told) == 1


def test_one_timer_that_an_earlier_deadline_moves() -> None:
    rig = Rig()
    rig.router.ready = [[], []]
    rig.router.next_timeout = 12.0
    rig.driver.received(b"a", FLOW)
    rig.router.next_timeout = 11.0
    rig.driver.received(b"b", FLOW)
    rig.clock.fire(20.0)
    assert rig.router.told[2:] == [("timeout", 11.0)]
    rig.driver.close()
