"""The operator's own metrics over a fake cluster, recorded while the leader changes: what the alerts make of them.

The former leader goes on to be scraped with the gauges of its last pass; only the cluster is not real.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from pbx_operator.lease import LEASE_S, RENEW_S, Elector
from pbx_operator.reconcile import Reconciler
from support.operator_rig import QuietObserver, Rig
from support.recorded_series import Recording, fired, sample_of
from support.scrape import Metrics

pytestmark = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")


class Clock:
    """Monotonic seconds, moved by hand."""

    now = 0.0


class Replica:
    """An operator process without its sockets."""

    def __init__(self, rig: Rig, clock: Clock, name: str) -> None:
        self.name, self.registry = name, CollectorRegistry()
        observer = QuietObserver(self.registry)
        kube = rig.kube
        self.elector = Elector(kube, "pbx", name, observer, lambda: clock.now, lambda: kube.now)
        self.reconciler = Reconciler(kube, kube, observer, lambda: kube.now, rig.policy, lambda: self.elector.is_leader)

    async def act(self) -> None:
        """One turn of its loops."""
        await self.elector.step()
        if self.elector.is_leader:
            await self.reconciler.run_once()

    def sample(self) -> dict[str, float]:
        """What it tells Prometheus."""
        return sample_of(Metrics.parse(generate_latest(self.registry).decode()), "pbx", self.name)


async def minutes(rig: Rig, clock: Clock, replicas: list[Replica], count: int, into: Recording) -> None:
    """So many minutes go by, each with a pass and a scrape of every replica."""
    for _ in range(count):
        clock.now += RENEW_S
        for replica in replicas:
            await replica.act()
        rig.kube.tick(1.0)
        told = {name: value for replica in replicas for name, value in replica.sample().items()}
        into.add(told | {'pbx_signaling_calls_active{namespace="pbx", pod="signaling"}': 0})


@pytest.mark.parametrize("hands_over", [True, False], ids=["ends in order", "hangs"])
async def test_gauges_of_a_former_leader_neither_raise_nor_hide_an_alert(hands_over: bool, tmp_path: Path) -> None:
    rig, clock, told = Rig(nodes=2, replicas=2), Clock(), Recording()
    one, two = Replica(rig, clock, "op-1"), Replica(rig, clock, "op-2")
    await minutes(rig, clock, [one, two], 30, told)
    assert (one.elector.is_leader, two.elector.is_leader) == (True, False)
    well = Recording(list(told.samples))
    assert fired([Recording(well.samples[10:])], tmp_path, "pbx") == set()

    # The leader goes while it sees all well; what fails then is told by the next one alone.
    if hands_over:
        await one.elector.give_up()
    else:
        clock.now += LEASE_S
        await two.act()
        clock.now += LEASE_S
    rig.change(replicas=30)  # more than two nodes hold
    await minutes(rig, clock, [two, one], 15, told)
    assert (one.elector.is_leader, two.elector.is_leader) == (False, True)
    assert fired([Recording(told.samples[10:])], tmp_path, "pbx") == {"PbxRelaysMissing"}

    # And it goes while it sees the fault: mended meanwhile, it is told no more, whatever the former leader still says.
    three, after = Replica(rig, clock, "op-3"), Recording()
    await two.elector.give_up()
    rig.change(replicas=2)
    await minutes(rig, clock, [three, two, one], 30, after)
    assert three.elector.is_leader
    assert fired([Recording(after.samples[5:])], tmp_path, "pbx") == set()
