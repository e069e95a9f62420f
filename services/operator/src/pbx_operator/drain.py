"""Who goes first, and when a relay that drains may be deleted. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Final

from pbx_operator.observed import Pod, RelayReport, Shard, World

EMPTY_GRACE_S: Final = 30
"""What a relay without calls gets between SIGTERM and SIGKILL."""
DEADLINE_GRACE_S: Final = 10
"""What one gets whose deadline has passed: time to tell signaling which calls it drops."""


class Verdict(enum.Enum):
    """What to do with the pod of a draining shard."""

    WAIT = enum.auto()
    """Calls are left, or nobody knows."""
    EMPTY = enum.auto()
    """No call is left, and none can come."""
    OVERDUE = enum.auto()
    """The deadline has passed."""


def verdict(shard: Shard, pod: Pod, report: RelayReport | None, world: World) -> Verdict:
    """Whether the pod of a draining shard may go.

    A relay that answers nothing may still hold calls (its kernel part outlives it): it waits for its deadline,
    unless it never ran.
    """
    if pod.is_over or not pod.has_started:
        return Verdict.EMPTY
    if report is not None and report.is_draining and report.calls == 0:
        return Verdict.EMPTY
    if shard.drain is not None and world.now >= shard.drain.deadline:
        return Verdict.OVERDUE
    return Verdict.WAIT


def emptiness(shard: Shard, world: World) -> tuple[int, int, float, str]:
    """Sorts shards by how little is lost when they go: those that never ran, then by calls, silent ones last.

    Among equals the youngest goes.
    """
    pod, report = world.pod_of(shard), world.report_of(shard)
    age = -shard.created_at.timestamp() if shard.created_at else 0.0
    if pod is None or pod.is_over or not pod.has_started:
        return 0, 0, age, shard.name
    if report is None:
        return 2, 0, age, shard.name
    return 1, report.calls, age, shard.name


def victims(candidates: Iterable[Shard], count: int, world: World) -> list[Shard]:
    """The `count` emptiest relays."""
    return sorted(candidates, key=lambda shard: emptiness(shard, world))[: max(0, count)]
