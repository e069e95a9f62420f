"""How many relays there should be so that a buffer of free slots stays in stock. Pure.

Out at once, in one at a time and only after a surplus has lasted: a relay too many costs little, one too few a call.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pbx_operator.observed import World


@dataclass(frozen=True, slots=True)
class Wish:
    """What the autoscaler wants."""

    replicas: int
    surplus_since: datetime | None
    """Since when a relay has been superfluous; kept in the pool's status."""
    reason: str = ""


def wish(world: World) -> Wish | None:
    """The number of relays wanted; None: the pool does not scale itself."""
    policy, current = world.pool.spec.autoscale, world.pool.spec.replicas
    if policy is None:
        return None
    bounded = min(max(current, policy.min_replicas), policy.max_replicas)
    if bounded != current:
        return Wish(bounded, None, f"replicas must lie within {policy.min_replicas} and {policy.max_replicas}")
    free, coming = _stock(world)
    per_relay = world.pool.spec.slots_per_shard
    if free + coming < policy.buffer_calls:
        missing = -(-(policy.buffer_calls - free - coming) // per_relay)
        target = min(current + missing, policy.max_replicas)
        return Wish(target, None, f"{free} slots free, {policy.buffer_calls} wanted")
    return _shrink(world, free)


def _shrink(world: World, free: int) -> Wish:
    policy, current = world.pool.spec.autoscale, world.pool.spec.replicas
    assert policy is not None
    is_surplus = free - world.pool.spec.slots_per_shard >= policy.buffer_calls and current > policy.min_replicas
    if not is_surplus:
        return Wish(current, None)
    since = world.pool.surplus_since or world.now
    if (world.now - since).total_seconds() < policy.scale_in_after_seconds:
        return Wish(current, since)
    return Wish(current - 1, world.now, f"{free} slots free, {policy.buffer_calls} wanted")


def _stock(world: World) -> tuple[int, int]:
    """Free slots now, and slots of relays that are being started."""
    free = coming = 0
    staying = [shard for shard in world.own_shards if shard.drain is None and not world.is_lost(shard.spec.node)]
    for shard in staying:
        report, pod = world.report_of(shard), world.pod_of(shard)
        if report is not None and not report.is_draining:
            free += report.slots_free
        elif pod is None or not pod.is_ready:
            coming += world.pool.spec.slots_per_shard
    coming += max(0, world.pool.spec.replicas - len(staying)) * world.pool.spec.slots_per_shard
    return free, coming
