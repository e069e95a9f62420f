"""Who acts: one replica at a time, whatever happens."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import Any

from prometheus_client import CollectorRegistry

from pbx_operator.kube import Kinds
from pbx_operator.lease import HOLD_S, LEASE_S, RENEW_S, Elector, is_held
from support.fake_kube import FakeKube
from support.operator_rig import QuietObserver


class Clock:
    """Monotonic seconds, moved by hand."""

    now = 0.0


def elector(kube: FakeKube, clock: Clock, name: str) -> Elector:
    return Elector(kube, "pbx", name, QuietObserver(CollectorRegistry()), lambda: clock.now, lambda: kube.now)


async def test_the_first_one_takes_it_and_keeps_it() -> None:
    kube, clock = FakeKube(), Clock()
    one, two = elector(kube, clock, "one"), elector(kube, clock, "two")
    for _ in range(10):
        await one.step()
        await two.step()
        assert (one.is_leader, two.is_leader) == (True, False)
        clock.now += RENEW_S


async def test_a_dead_one_is_followed_after_its_time() -> None:
    kube, clock = FakeKube(), Clock()
    one, two = elector(kube, clock, "one"), elector(kube, clock, "two")
    await one.step()
    await two.step()
    clock.now += LEASE_S - 1
    await two.step()
    assert not two.is_leader
    assert not one.is_leader, "it has stopped long before"
    clock.now += 1
    await two.step()
    assert two.is_leader


async def test_giving_up_hands_over_at_once() -> None:
    kube, clock = FakeKube(), Clock()
    one, two = elector(kube, clock, "one"), elector(kube, clock, "two")
    await one.step()
    await one.give_up()
    await two.step()
    assert (one.is_leader, two.is_leader) == (False, True)
    (lease,) = kube.of(Kinds.LEASE)
    assert lease["spec"]["leaseTransitions"] == 2


async def test_one_that_gave_up_does_not_take_it_again() -> None:
    """The loop that renews runs on while the process ends."""
    kube, clock = FakeKube(), Clock()
    one = elector(kube, clock, "one")
    await one.step()
    await one.give_up()
    clock.now += RENEW_S
    await one.step()
    assert not one.is_leader
    (lease,) = kube.of(Kinds.LEASE)
    assert lease["spec"]["holderIdentity"] == ""


async def test_giving_up_waits_for_a_renewal_under_way() -> None:
    """Else the renewal makes the hand-over a conflict, and the next one waits until the lease expires."""
    kube, clock = FakeKube(), Clock()
    one = elector(kube, clock, "one")
    await one.step()
    clock.now += RENEW_S
    await asyncio.gather(one.step(), one.give_up())
    (lease,) = kube.of(Kinds.LEASE)
    assert lease["spec"]["holderIdentity"] == ""


async def test_never_two_at_a_time_under_faults() -> None:
    for seed in range(30):
        kube, clock = FakeKube(rng=random.Random(seed), fault_rate=0.3), Clock()
        replicas = [elector(kube, clock, name) for name in ("one", "two", "three")]
        rng = random.Random(seed)
        led = 0
        for _ in range(200):
            await rng.choice(replicas).step()
            clock.now += rng.choice([0.1, 1.0, RENEW_S, HOLD_S])
            leaders = sum(replica.is_leader for replica in replicas)
            assert leaders <= 1
            led += leaders
        assert led, "nobody ever led"


def test_somebody_acts_under_a_lease_that_is_renewed() -> None:
    now = datetime(2030, 1, 1, tzinfo=UTC)

    def lease(holder: str, age_s: float) -> dict[str, Any]:
        renewed = (now - timedelta(seconds=age_s)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {"spec": {"holderIdentity": holder, "renewTime": renewed}}

    assert is_held(lease("one", 4), now)
    assert is_held(lease("one", -20), now), "clocks differ"
    assert not is_held(lease("", 4), now)
    assert not is_held(lease("one", 600), now)
    assert not is_held({}, now)
