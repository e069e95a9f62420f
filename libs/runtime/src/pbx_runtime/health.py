"""What a process says of itself: live (do not restart me) and ready (send me work).

Named checks are set by whoever knows (`health.set("redis", False, "connection refused")`); ready is the
conjunction of all that are needed, of "started" and of "not stopping". Liveness is not touched by a peer's failure:
restarting a process does not mend its database.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

CHECKS_MAX = 64
"""Checks are named in code; more than this means that a name was made from input."""


@dataclass(frozen=True, slots=True)
class Check:
    """One named check."""

    ok: bool
    detail: str = ""
    needed: bool = True
    """False: work can be done without it for now. It is told all the same, and alerts tell of it."""


class HealthCollector(Collector):
    """A gauge for each check: what /readyz says, for alerts."""

    def __init__(self, health: Health) -> None:
        self._health = health

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """All checks of now."""
        checks = GaugeMetricFamily("pbx_health_check", "1 where a check of /readyz is good", labels=["check"])
        for name, check in self._health.checks.items():
            checks.add_metric([name], int(check.ok))
        yield checks
        yield GaugeMetricFamily("pbx_ready", "1 where every check that is needed is good", int(self._health.is_ready))


class Health:
    """The named checks of one process."""

    def __init__(self) -> None:
        self._checks: dict[str, Check] = {}
        self._listeners: list[Callable[[], None]] = []
        self._changed = asyncio.Event()
        self.is_live = True

    def set(self, name: str, ok: bool, detail: str = "", *, needed: bool = True) -> None:
        """Tell the state of one check; cheap where nothing changed."""
        check = Check(ok, detail, needed)
        if self._checks.get(name) == check:
            return
        if name not in self._checks and len(self._checks) >= CHECKS_MAX:
            raise ValueError(f"more than {CHECKS_MAX} health checks: {name!r} is one too many")
        self._checks[name] = check
        self._tell()

    def set_live(self, live: bool) -> None:
        """False asks the platform to restart this process: only where it cannot recover itself."""
        self.is_live = live
        self._tell()

    @property
    def is_ready(self) -> bool:
        """Whether every check that is needed is good."""
        return self.is_live and all(check.ok or not check.needed for check in self._checks.values())

    @property
    def checks(self) -> Mapping[str, Check]:
        """All checks by name."""
        return MappingProxyType(self._checks)

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call back after every change, in the loop of whoever changed it."""
        self._listeners.append(callback)

    async def changed(self) -> None:
        """Wait for the next change."""
        await self._changed.wait()

    def _tell(self) -> None:
        # Whoever waits now holds the old event; those who come later wait for the next change.
        self._changed.set()
        self._changed = asyncio.Event()
        for callback in self._listeners:
            callback()
