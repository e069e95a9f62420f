"""200 random sequences of 50 steps: scaling, lost nodes, restarts and split brains of the operator, API errors.

The invariants of `support.operator_rig` are checked after every single write, and each sequence ends with quiet
weather, in which the pool must reach what was asked for.
"""

from __future__ import annotations

import asyncio
import copy
import os
import random

import pytest

pytest.importorskip("pbx_operator", reason="operator not installed: make setup")

from pbx_operator.kube import Kinds
from pbx_operator.observed import Manifest
from support.fake_kube import merge, node
from support.operator_rig import Rig

SEQUENCES = int(os.environ.get("PBX_SEQUENCES", "40"))
"""200 in `make test`; fewer while one works."""
STEPS = 50
CHUNKS = 8


class Weather:
    """One random sequence."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.rig = Rig(seed, nodes=4, drain={"deadlineSeconds": 600})
        self.trace: list[str] = []

    async def run(self) -> None:
        for _ in range(STEPS):
            await self.step()
        await self.calm()

    async def step(self) -> None:
        steps = [
            self.scale, self.scale, self.calls, self.calls, self.hang_up, self.lose_node, self.add_node, self.unready,
            self.ready, self.cordon, self.uncordon, self.restart, self.split_brain, self.errors, self.vanish,
            self.new_template, self.wait, self.delete_shard, self.deaf, self.quiet, self.quiet, self.quiet,
        ]  # fmt: skip
        chosen = self.rng.choice(steps)
        self.trace.append(chosen.__name__)
        await chosen()
        self.rig.kube.tick(self.rng.choice([0, 1, 5]))

    def pick(self, kind: Kinds) -> Manifest | None:
        found = self.rig.kube.of(kind)
        return self.rng.choice(found) if found else None

    async def quiet(self) -> None:
        await self.rig.operator.run_once()

    async def scale(self) -> None:
        self.rig.change(replicas=self.rng.randrange(0, 9))
        await self.scaled_pass()

    async def scaled_pass(self) -> None:
        """One pass; victims must be the emptiest of those that could be chosen."""
        before = self.load()
        draining = {name for name, body in self.rig.shards().items() if "drain" in body["spec"]}
        await self.rig.operator.run_once()
        after = self.rig.shards()
        chosen = [
            n for n, b in after.items() if b["spec"].get("drain", {}).get("reason") == "ScaleIn" and n not in draining
        ]
        kept = [n for n, b in after.items() if "drain" not in b["spec"] and n in before]
        for victim in chosen:
            assert all(before.get(victim, 0) <= before[other] for other in kept), f"{victim} was not the emptiest"

    def load(self) -> dict[str, int]:
        """Calls by shard, of the relays that are reached."""
        ready = {b["metadata"]["name"] for b in self.rig.kube.of(Kinds.NODE)
                 if b["status"]["conditions"][0]["status"] == "True"}  # fmt: skip
        pods = {n: b for n, b in self.rig.pods().items() if b["spec"].get("nodeName") in ready}
        relays = self.rig.kube.relays
        return {n: relays[b["metadata"]["uid"]].calls for n, b in pods.items() if b["metadata"]["uid"] in relays}

    async def calls(self) -> None:
        for relay in self.rig.kube.relays.values():
            if not relay.is_draining:
                relay.calls = min(relay.slots, relay.calls + self.rng.randrange(4))
        await self.quiet()

    async def hang_up(self) -> None:
        for relay in self.rig.kube.relays.values():
            relay.calls = self.rng.randint(0, relay.calls)
        await self.quiet()

    async def lose_node(self) -> None:
        if len(self.rig.kube.of(Kinds.NODE)) > 1 and (found := self.pick(Kinds.NODE)):
            self.rig.kube.remove((Kinds.NODE, "", found["metadata"]["name"]))
        await self.quiet()

    async def add_node(self) -> None:
        number = self.rng.randrange(1, 7)
        if (Kinds.NODE, "", f"node-{number}") not in self.rig.kube.objects:
            self.rig.kube.put(Kinds.NODE, node(f"node-{number}", number, zone="ab"[number % 2]))
        await self.quiet()

    def set_ready(self, body: Manifest, status: str) -> None:
        stamp = self.rig.kube.text(self.rig.kube.now)
        ready = [{"type": "Ready", "status": status, "lastTransitionTime": stamp}]
        self.rig.kube.put(Kinds.NODE, merge(body, {"status": {"conditions": ready}}))

    async def unready(self) -> None:
        if found := self.pick(Kinds.NODE):
            self.set_ready(found, "Unknown")
        await self.quiet()

    async def ready(self) -> None:
        if found := self.pick(Kinds.NODE):
            self.set_ready(found, "True")
        await self.quiet()

    async def cordon(self) -> None:
        if found := self.pick(Kinds.NODE):
            self.rig.kube.put(Kinds.NODE, merge(found, {"spec": {"unschedulable": True}}))
        await self.quiet()

    async def uncordon(self) -> None:
        for found in self.rig.kube.of(Kinds.NODE):
            self.rig.kube.put(Kinds.NODE, merge(found, {"spec": {"unschedulable": None}}))
        await self.quiet()

    async def restart(self) -> None:
        self.rig.operator = self.rig.new_operator()
        await self.quiet()

    async def split_brain(self) -> None:
        await asyncio.gather(self.rig.operator.run_once(), self.rig.new_operator().run_once())

    async def errors(self) -> None:
        self.rig.kube.fault_rate = 0.3
        for _ in range(3):
            await self.quiet()
            self.rig.kube.tick(1)
        self.rig.kube.fault_rate = 0.0

    async def vanish(self) -> None:
        if found := self.pick(Kinds.POD):
            self.rig.kube.remove((Kinds.POD, "pbx", found["metadata"]["name"]))
        await self.quiet()

    async def new_template(self) -> None:
        image = f"relay:{self.rng.randrange(3)}"
        self.rig.change(template={"image": image, "redis": {"name": "pbx-redis"}})
        await self.quiet()

    async def wait(self) -> None:
        self.rig.kube.tick(self.rng.choice([30, 90, 700]))
        await self.quiet()

    async def delete_shard(self) -> None:
        if found := self.pick(Kinds.SHARD):
            self.rig.kube.remove((Kinds.SHARD, "pbx", found["metadata"]["name"]))
        await self.quiet()

    async def deaf(self) -> None:
        self.rig.kube.deaf = True
        await self.quiet()
        self.rig.kube.deaf = False

    async def calm(self) -> None:
        """Everything works again and calls end: the pool becomes what was asked for, and stays so."""
        self.rig.kube.fault_rate = 0.0
        for found in self.rig.kube.of(Kinds.NODE):
            self.set_ready(merge(found, {"spec": {"unschedulable": None}}), "True")
        for number in (1, 2, 3):
            if (Kinds.NODE, "", f"node-{number}") not in self.rig.kube.objects:
                self.rig.kube.put(Kinds.NODE, node(f"node-{number}", number))
        for _ in range(40):
            for relay in self.rig.kube.relays.values():
                relay.calls = 0
            await self.rig.operator.run_once()
            self.rig.kube.tick(5)
        status, wanted = self.rig.pool["status"], self.rig.pool["spec"]["replicas"]
        assert (status["readyReplicas"], status["replicas"]) == (wanted, wanted), self.rig.pool["status"]
        settled = copy.deepcopy(self.rig.kube.objects)
        await self.rig.new_operator().run_once()
        assert settled == self.rig.kube.objects, "a restart of the operator changed something"


@pytest.mark.parametrize("chunk", range(CHUNKS))
async def test_no_sequence_violates_an_invariant(chunk: int) -> None:
    for seed in range(chunk, SEQUENCES, CHUNKS):
        weather = Weather(seed)
        try:
            await weather.run()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, after {', '.join(weather.trace)}: {error}") from error
