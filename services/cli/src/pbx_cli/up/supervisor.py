"""Starts the stages of a plan, restarts what dies, stops everything in reverse order.

Theory of operation. Until everything was ready once, a child that ends is an error: the command fails and says which.
Afterwards each child has a keeper: when the child ends it is logged in one line and started again after a
back-off. `stop` cancels the keepers, then ends the stages one after the other, the last started first.
"""

from __future__ import annotations

import asyncio
import math
import signal
from collections.abc import Callable
from typing import Any

from pbx_cli.errors import CliError
from pbx_cli.up import child as processes
from pbx_cli.up.child import Child
from pbx_cli.up.plan import Plan, ProcessPlan
from pbx_cli.up.ready import until_ready
from pbx_runtime import logs
from pbx_runtime.backoff import Backoff

READY_S = 60.0
"""How long a process may take until it is ready; a database migration may run in it."""
STEADY_S = 30.0
"""A child that lived this long is forgiven its earlier deaths."""

_log = logs.get_logger("supervisor")


class Supervisor:
    """The children of one plan."""

    def __init__(
        self,
        plan: Plan,
        on_restart: Callable[[], None] = lambda: None,
        before_start: Callable[[ProcessPlan, float], None] = lambda plan, away_s: None,
    ) -> None:
        """`before_start`: told of each process that is about to start, and how many seconds it was not there."""
        self._plan = plan
        self._on_restart = on_restart
        self._before_start = before_start
        self._children: dict[str, Child] = {}
        self._keepers: list[asyncio.Task[None]] = []

    @property
    def children(self) -> tuple[Child, ...]:
        """The running children in order of the plan."""
        return tuple(self._children[p.name] for p in self._plan.processes if p.name in self._children)

    async def start_stage(self, index: int) -> None:
        """Start one stage and wait until all of it is ready. Raises CliError that names who failed."""
        stage = self._plan.stages[index]
        for plan in stage:
            self._before_start(plan, math.inf)
            self._children[plan.name] = processes.start(plan)
        # gather, not a TaskGroup: the first failure is the message, not a group of them.
        await asyncio.gather(*[self._until_ready(self._children[plan.name]) for plan in stage])

    async def _until_ready(self, child: Child) -> None:
        ready = asyncio.ensure_future(until_ready(child.plan.ready))
        either: set[asyncio.Future[Any]] = {ready, child.ended}
        try:
            await asyncio.wait(either, timeout=READY_S, return_when=asyncio.FIRST_COMPLETED)
            if child.ended.done():
                raise CliError(f"{child.plan.name} {_how(child.ended.result())} before it was ready: see its log above")
            if not ready.done():
                raise CliError(f"{child.plan.name} is not ready after {READY_S:g} s ({child.plan.ready})")
        finally:
            ready.cancel()

    def keep(self) -> None:
        """From now on restart whatever ends."""
        for name in self._children:
            self._keepers.append(asyncio.ensure_future(self._keep(name)))

    async def _keep(self, name: str) -> None:
        backoff = Backoff(first_s=0.2, most_s=10.0)
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            code = await asyncio.shield(self._children[name].ended)
            if loop.time() - started > STEADY_S:
                backoff.reset()
            delay = backoff.next()
            _log.error("child ended", child=name, how=_how(code), restart_in_s=round(delay, 2))
            self._children[name].kill()  # its group: what it left behind holds its ports
            await asyncio.sleep(delay)
            plan = self._children[name].plan
            self._before_start(plan, delay)
            self._children[name] = processes.start(plan)
            self._on_restart()

    async def stop(self) -> bool:
        """End all, the last stage first. Returns whether every one of them ended by itself."""
        for keeper in self._keepers:
            keeper.cancel()
        if self._keepers:
            await asyncio.wait(self._keepers)
        clean = True
        for stage in reversed(self._plan.stages):
            for group in stop_groups(stage):
                children = [self._children[plan.name] for plan in group if plan.name in self._children]
                answers = await asyncio.gather(*[child.stop() for child in children])
                for child, in_time in zip(children, answers, strict=True):
                    clean &= self._note_end(child, in_time)
        return clean

    def _note_end(self, child: Child, in_time: bool) -> bool:
        code = child.ended.result()
        if in_time and code == 0:
            return True
        how = _how(code) if in_time else f"was killed: not ended after {child.plan.stop_s:g} s"
        if self._keepers:  # else the start failed, and that is what is told
            _log.error("child did not stop cleanly", child=child.plan.name, how=how)
        return False

    def kill(self) -> None:
        """End all at once."""
        for child in self._children.values():
            child.kill()


def stop_groups(stage: tuple[ProcessPlan, ...]) -> list[list[ProcessPlan]]:
    """Replicas of one service stop together; different services one after the other, the last named first."""
    groups: dict[tuple[str, ...], list[ProcessPlan]] = {}
    for plan in reversed(stage):
        groups.setdefault(plan.argv, []).append(plan)
    return list(groups.values())


def _how(code: int) -> str:
    if code < 0:
        try:
            return f"was ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"was ended by signal {-code}"
    return f"ended with exit code {code}"
