"""Which replica of the operator acts: a coordination/v1 Lease, taken and renewed by optimistic writes.

Theory of operation. The holder renews every RENEW_S; another one takes over when the lease has not changed for
LEASE_S on its own clock (clocks of nodes are not compared). The holder stops acting HOLD_S after its last successful
renewal, which is before anybody can have taken over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from pbx_operator.kube import ConflictError, Kinds, Kube, KubeError, NotFoundError
from pbx_operator.observe import Observer
from pbx_operator.observed import Manifest

LEASE_S: Final = 15
RENEW_S: Final = 4.0
HOLD_S: Final = 10.0
"""LEASE_S less the time that a request under way may still take."""
NAME: Final = "pbx-operator"
HELD_S: Final = 60
"""How old the last renewal of another operator's lease may be: LEASE_S, and clocks that differ."""


def is_held(lease: Manifest, now: datetime) -> bool:
    """Whether somebody acts under a lease, as far as the clocks can be compared."""
    spec = lease.get("spec") or {}
    renewed = spec.get("renewTime")
    if not spec.get("holderIdentity") or not renewed:
        return False
    return now - datetime.fromisoformat(renewed) < timedelta(seconds=HELD_S)


class Elector:
    """Takes and keeps the lease. `now` is monotonic, in seconds; `wall` dates the lease for people."""

    def __init__(
        self,
        kube: Kube,
        namespace: str,
        identity: str,
        observer: Observer,
        now: Callable[[], float],
        wall: Callable[[], datetime],
    ) -> None:
        self._kube = kube
        self._namespace = namespace
        self._identity = identity
        self._observer = observer
        self._now = now
        self._wall = wall
        self._held_until = float("-inf")
        self._seen: tuple[str, float] | None = None
        self._has_ended = False
        self._turn = asyncio.Lock()

    @property
    def is_leader(self) -> bool:
        """Whether this replica may act now."""
        return self._now() < self._held_until

    async def run(self) -> None:
        """Take and renew, for as long as the process lives."""
        while True:
            await self.step()
            await asyncio.sleep(RENEW_S)

    async def step(self) -> None:
        """Look at the lease once, and take or renew it where that is due."""
        async with self._turn:
            if not self._has_ended:
                await self._step()

    async def _step(self) -> None:
        begun = self._now()
        try:
            if await self._hold():
                self._held_until = begun + HOLD_S
        except ConflictError:
            pass  # another one was faster; the next step sees who
        except KubeError as error:
            self._observer.failed("lease", error)
        self._observer.leader.set(int(self.is_leader))

    async def give_up(self) -> None:
        """Let another one take over at once, because this process ends. It does not take the lease again."""
        held, self._held_until = self.is_leader, float("-inf")  # nothing is written from here on
        self._observer.leader.set(0)  # the next one may say so before this process is gone
        async with self._turn:  # a renewal under way would take the lease back, or make ours a conflict
            self._has_ended = True
            held, self._held_until = held or self.is_leader, float("-inf")
            if held:
                await self._hand_over()

    async def _hand_over(self) -> None:
        try:
            body = await self._kube.get(Kinds.LEASE, self._namespace, NAME)
            body["spec"]["holderIdentity"] = ""
            await self._kube.replace(Kinds.LEASE, body)
        except KubeError as error:
            self._observer.failed("lease", error)

    async def _hold(self) -> bool:
        try:
            body = await self._kube.get(Kinds.LEASE, self._namespace, NAME)
        except NotFoundError:
            await self._kube.create(Kinds.LEASE, self._body({}))
            return True
        holder = (body.get("spec") or {}).get("holderIdentity") or ""
        if holder not in ("", self._identity) and not self._has_expired(body):
            return False
        await self._kube.replace(Kinds.LEASE, self._body(body))
        return True

    def _has_expired(self, body: Manifest) -> bool:
        version = str(body["metadata"].get("resourceVersion", ""))
        if self._seen is None or self._seen[0] != version:
            self._seen = version, self._now()
        return self._now() - self._seen[1] >= LEASE_S

    def _body(self, present: Manifest) -> Manifest:
        stamp = self._wall().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        before = present.get("spec") or {}
        changed = before.get("holderIdentity") != self._identity
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": NAME, "namespace": self._namespace, **(present.get("metadata") or {})},
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": LEASE_S,
                "acquireTime": stamp if changed else before.get("acquireTime", stamp),
                "renewTime": stamp,
                "leaseTransitions": int(before.get("leaseTransitions") or 0) + int(changed),
            },
        }
