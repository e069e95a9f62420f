"""Logs and metrics of the operator, and nowhere else."""

from __future__ import annotations

from typing import Final

from pbx_operator.kube import KubeError
from pbx_operator.observed import World
from pbx_operator.plan import Action
from pbx_runtime import logs
from pbx_runtime.metrics import Counter, Gauge, Registry

STATES: Final = ("ready", "draining", "lost", "starting")
_log = logs.get_logger("operator")


def _subject(action: Action) -> str:
    """The name of what an action is about."""
    thing = getattr(action, "pod", None) or getattr(action, "shard", None) or action
    return str(getattr(thing, "name", ""))


class Observer:
    """What passes did and saw."""

    def __init__(self, registry: Registry) -> None:
        self._actions = Counter("pbx_operator_actions", "Actions performed", ["action"], registry=registry)
        self._races = Counter("pbx_operator_conflicts", "Writes that lost a race (404, 409)", registry=registry)
        self._failures = Counter("pbx_operator_failures", "Requests that failed", ["what"], registry=registry)
        labels = ["namespace", "pool"]  # as many as a person made
        self._wanted = Gauge("pbx_operator_relays_wanted", "Relays asked for", labels, registry=registry)
        self._relays = Gauge("pbx_operator_relays", "Relays by state", [*labels, "state"], registry=registry)
        self._calls = Gauge("pbx_operator_calls", "Calls on relays that answered", labels, registry=registry)
        self._free = Gauge("pbx_operator_slots_free", "Slots that can be taken", labels, registry=registry)
        self._silent = Gauge("pbx_operator_relays_silent", "Relays that did not answer", labels, registry=registry)
        self.leader = Gauge("pbx_operator_leader", "1 where this replica acts", registry=registry)

    def acted(self, action: Action) -> None:
        """An action was performed."""
        name = type(action).__name__
        self._actions.labels(name).inc()
        _log.info("done", action=name, on=_subject(action))

    def raced(self, action: Action, error: KubeError) -> None:
        """Somebody was faster."""
        self._races.inc()
        _log.info("raced", action=type(action).__name__, on=_subject(action), error=str(error))

    def failed(self, what: str, error: KubeError) -> None:
        """A request failed; the next pass tries again."""
        self._failures.labels(what).inc()
        _log.warning("failed", what=what, error=str(error))

    def saw(self, world: World) -> None:
        """The state of a pool."""
        key = (world.pool.namespace, world.pool.name)
        states = dict.fromkeys(STATES, 0)
        silent = 0
        for shard in world.own_shards:
            pod = world.pod_of(shard)
            is_ready = pod is not None and pod.is_ready
            silent += is_ready and world.report_of(shard) is None
            if world.is_lost(shard.spec.node):
                states["lost"] += 1
            elif shard.drain is not None:
                states["draining"] += 1
            else:
                states["ready" if is_ready else "starting"] += 1
        for state, count in states.items():
            self._relays.labels(*key, state).set(count)
        self._wanted.labels(*key).set(world.pool.spec.replicas)
        self._silent.labels(*key).set(silent)
        self._calls.labels(*key).set(sum(r.calls for r in world.reports.values()))
        self._free.labels(*key).set(sum(r.slots_free for r in world.reports.values() if not r.is_draining))
