"""Status and conditions of pools and shards: functions of what is seen. Pure.

A message says what is waited for and, where a person has to act, what would help.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from pbx_operator import addressing, autoscale, placement
from pbx_operator.observed import LABEL_POOL, Manifest, Pod, Pool, Shard, World
from pbx_operator.plan import cut_short, outdated, staying

LISTED_MAX: Final = 3
"""Names in one message; more are counted."""
WORDS_MAX: Final = 600
"""Characters of the API server's words in a message; Pod Security lists each rule that a pod breaks."""
REFUSAL_S: Final = 600
"""How long a node that the scheduler refused is left alone: long enough not to move a relay back at once, short enough
to notice that somebody made room."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A write that the API server did not take."""

    what: str
    """What was to be done, on which object."""
    shard: str
    """The relay that it was for; empty: none."""
    words: str
    """Why, in the API server's words."""
    status: int

    def __str__(self) -> str:
        return f"{self.what}: {self.words[:WORDS_MAX]}"


NOTHING_REFUSED: Final[tuple[Refusal, ...]] = ()


def time_text(moment: datetime) -> str:
    """As Kubernetes writes times."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def shard_status(shard: Shard, world: World, refusals: tuple[Refusal, ...] = NOTHING_REFUSED) -> Manifest:
    """The status of a RelayShard."""
    report, pod = world.report_of(shard), world.pod_of(shard)
    phase, message = _phase(shard, world)
    refused = next((refusal for refusal in refusals if refusal.shard == shard.name), None)
    if refused is not None:
        message = str(refused)
    return {
        "phase": phase,
        "message": message,
        "calls": report.calls if report else None,
        "freeSlots": report.slots_free if report else None,
        "advertise": pod.advertise if pod else "",
        "startedPod": pod.uid if pod and pod.is_ready else shard.status.get("startedPod", ""),
    }


def has_started_anew(shard: Shard, status: Manifest) -> bool:
    """Whether the status tells of a relay's start that was not told before."""
    return bool(status["startedPod"]) and status["startedPod"] != shard.status.get("startedPod", "")


def _phase(shard: Shard, world: World) -> tuple[str, str]:
    node, pod = world.nodes.get(shard.spec.node), world.pod_of(shard)
    if world.is_lost(shard.spec.node):
        what = "is gone" if node is None else "is not ready; its relay counts again when it returns"
        return "Lost", f"node {shard.spec.node} {what}"
    if shard.drain is not None or shard.is_deleting or (pod is not None and pod.is_terminating):
        return "Draining", drain_message(shard, world)
    if pod is None or not pod.has_started:
        return "Pending", _pending_message(shard, pod, world)
    if not pod.is_ready:
        return "NotReady", pod.message or "the relay's readiness probe fails: see its log"
    return "Ready", ""


def _pending_message(shard: Shard, pod: Pod | None, world: World) -> str:
    node = world.nodes[shard.spec.node]
    if pod is not None:
        return pod.message or "its pod is starting"
    if not addressing.advertised(node, world.pool.spec.addressing):
        return addressing.explain_unknown(node.name, world.pool.spec.addressing)
    if not addressing.control_host(node):
        return f"node {node.name} has no InternalIP: signaling could not reach the relay"
    return "its pod is about to be created" if node.is_ready else f"node {node.name} is not ready"


def drain_message(shard: Shard, world: World) -> str:
    """What a drain waits for: "3 calls left, oldest 41 min, dropped at 12:00:00 UTC"."""
    report = world.report_of(shard)
    if report is None:
        text = "the relay does not answer: its calls are not known"
    else:
        text = f"{report.calls} call{'' if report.calls == 1 else 's'} left"
        if report.oldest_call_s is not None and report.calls:
            text += f", oldest {int(report.oldest_call_s // 60)} min"
    if shard.drain is not None:
        text += f", until {shard.drain.deadline:%Y-%m-%d %H:%M:%S} UTC at most ({shard.drain.reason.value})"
    return ", ".join(filter(None, (text, cut_short(shard, world))))


def pool_status(world: World, template: str, refusals: tuple[Refusal, ...] = NOTHING_REFUSED) -> Manifest:
    """The status of a MediaRelayPool."""
    pool, now = world.pool, world.now
    here = staying(world)
    reports = [report for shard in world.own_shards if (report := world.report_of(shard))]
    wish = autoscale.wish(world)
    conditions = [
        _available(world), _progressing(world, template), _addressed(world), _placeable(world), _reconciled(refusals),
    ]  # fmt: skip
    return {
        "observedGeneration": pool.generation,
        "replicas": len(here),
        "readyReplicas": sum(1 for shard in here if _takes_calls(shard, world)),
        "drainingReplicas": sum(1 for shard in world.own_shards if shard.drain is not None),
        "updatedReplicas": sum(1 for s in here if world.pod_of(s) and not outdated(world, s, template)),
        "selector": f"{LABEL_POOL}={pool.name}",
        "calls": sum(report.calls for report in reports),
        "freeSlots": sum(report.slots_free for report in reports if not report.is_draining),
        "surplusSince": time_text(wish.surplus_since) if wish and wish.surplus_since else None,
        "refusedNodes": _refused_nodes(world),
        "conditions": [_dated(condition, pool, now) for condition in conditions],
    }


def _refused_nodes(world: World) -> list[Manifest]:
    """Nodes to be left alone; the time of each is set once, so that a status that says nothing new is not written."""
    known: Mapping[str, datetime] = world.pool.refused_until
    until = {
        node: known[node] if node in known and known[node] > world.now else world.now + timedelta(seconds=REFUSAL_S)
        for node in world.refused_nodes()
    }
    return [{"node": node, "until": time_text(moment)} for node, moment in sorted(until.items())]


def _reconciled(refusals: tuple[Refusal, ...]) -> dict[str, Any]:
    if not refusals:
        return _condition("Reconciled", True, "Done", "")
    reason = "Refused" if any(400 <= refusal.status < 500 for refusal in refusals) else "Failed"
    return _condition("Reconciled", False, reason, _listed([str(refusal) for refusal in refusals]))


def newly_refused(body: Manifest, status: Manifest) -> str:
    """The message of the condition that says what was refused, where it has not been told; empty: nothing new."""
    told = {c["message"] for c in (body.get("status") or {}).get("conditions") or () if c["status"] == "False"}
    now = [c for c in status.get("conditions") or () if c["type"] in ("Reconciled", "Valid") and c["status"] == "False"]
    return next((str(c["message"]) for c in now if c["message"] not in told), "")


def invalid_status(body: Manifest, problem: str, now: datetime) -> Manifest:
    """The status of a pool whose spec cannot be read: everything stays as it is until it is mended."""
    generation = int(body["metadata"].get("generation") or 0)
    fresh = _condition("Valid", False, "InvalidSpec", problem)
    earlier = {c["type"]: c for c in (body.get("status") or {}).get("conditions") or ()}
    dated = _date(fresh, earlier.get("Valid"), generation, now)
    return {"conditions": [*(c for kind, c in earlier.items() if kind != "Valid"), dated]}


def _takes_calls(shard: Shard, world: World) -> bool:
    pod = world.pod_of(shard)
    return shard.drain is None and pod is not None and pod.is_ready and not pod.is_terminating


def _condition(kind: str, ok: bool, reason: str, message: str) -> dict[str, Any]:
    return {"type": kind, "status": "True" if ok else "False", "reason": reason, "message": message}


def _available(world: World) -> dict[str, Any]:
    ready = sum(1 for shard in staying(world) if _takes_calls(shard, world))
    wanted = world.pool.spec.replicas
    ok = ready >= wanted
    message = f"{ready} of {wanted} relays take calls"
    return _condition("Available", ok, "RelaysReady" if ok else "RelaysMissing", message)


def _progressing(world: World, template: str) -> dict[str, Any]:
    draining = [shard for shard in world.own_shards if shard.drain is not None]
    behind = [f"{s.name}: {text}" for s in staying(world) if (text := outdated(world, s, template))]
    if draining:
        texts = [f"{shard.name}: {drain_message(shard, world)}" for shard in draining]
        return _condition("Progressing", True, "Draining", _listed(texts))
    if behind:
        return _condition("Progressing", True, "Upgrading", f"{len(behind)} relays to be replaced: {_listed(behind)}")
    return _condition("Progressing", False, "Settled", "nothing to do")


def _addressed(world: World) -> dict[str, Any]:
    wanted = world.pool.spec.addressing
    nodes = [world.nodes[s.spec.node] for s in world.own_shards if s.spec.node in world.nodes]
    unknown = sorted({node.name for node in nodes if not addressing.advertised(node, wanted)})
    if not unknown:
        return _condition("AddressKnown", True, "Known", "")
    return _condition("AddressKnown", False, "NoAddress", addressing.explain_unknown(_listed(unknown), wanted))


def _placeable(world: World) -> dict[str, Any]:
    missing = max(0, world.pool.spec.replicas - len(staying(world)))
    refused = [shard for shard in staying(world) if world.is_refused(shard)]
    if (not missing and not refused) or placement.place(world) is not None:
        return _condition("Placed", True, "Placed", "")
    if missing:
        return _condition("Placed", False, "NoRoom", f"{missing} relays missing: {placement.why_no_place(world)}")
    texts = [f"{shard.name}: {pod.message}" for shard in refused if (pod := world.pod_of(shard))]
    return _condition("Placed", False, "Unschedulable", f"{_listed(texts)}; {placement.why_no_place(world)}")


def _listed(texts: list[str]) -> str:
    more = len(texts) - LISTED_MAX
    return "; ".join(texts[:LISTED_MAX]) + (f"; and {more} more" if more > 0 else "")


def _dated(condition: dict[str, Any], pool: Pool, now: datetime) -> dict[str, Any]:
    earlier = next((c for c in pool.status.get("conditions") or () if c["type"] == condition["type"]), None)
    return _date(condition, earlier, pool.generation, now)


def _date(condition: dict[str, Any], earlier: Manifest | None, generation: int, now: datetime) -> dict[str, Any]:
    same = earlier is not None and earlier["status"] == condition["status"]
    since = earlier["lastTransitionTime"] if earlier is not None and same else time_text(now)
    return {**condition, "lastTransitionTime": since, "observedGeneration": generation}
