"""One child process: started in its own process group, waited for by pidfd, ended by SIGTERM, then SIGKILL."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass

from pbx_cli.up.plan import ProcessPlan

STOP_GRACE_S = 2.0
"""Beyond the process's own limit: it needs a moment to exit after it gave up."""


@dataclass(slots=True)
class Child:
    """A running process of the plan."""

    plan: ProcessPlan
    pid: int
    ended: asyncio.Future[int]
    """Its exit code; negative for a signal."""

    async def stop(self) -> bool:
        """SIGTERM, then SIGKILL after its time. Returns whether it ended by itself in time."""
        self._signal(signal.SIGTERM)
        done, _ = await asyncio.wait({self.ended}, timeout=self.plan.stop_s + STOP_GRACE_S)
        if not done:
            self.kill()
            await asyncio.wait({self.ended})
        # What it started and left behind dies with it.
        self._signal_group(signal.SIGKILL)
        return bool(done)

    def kill(self) -> None:
        """End it and its group at once."""
        self._signal_group(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if not self.ended.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


def start(plan: ProcessPlan) -> Child:
    """Start a process of the plan. Its stdout goes to our stderr: stdout belongs to `--json`."""
    loop = asyncio.get_running_loop()
    argv = [sys.executable, "-I", "-m", "pbx_cli.up.launch", str(os.getpid()), *plan.argv]
    process = subprocess.Popen(  # noqa: S603 -- the plan's own command line, no shell
        argv,
        env=dict(plan.environment),
        stdin=subprocess.DEVNULL,
        stdout=2,
        start_new_session=True,
        pass_fds=plan.descriptors,
    )
    ended: asyncio.Future[int] = loop.create_future()
    descriptor = os.pidfd_open(process.pid)

    def reap() -> None:
        loop.remove_reader(descriptor)
        os.close(descriptor)
        ended.set_result(process.wait())

    loop.add_reader(descriptor, reap)
    return Child(plan, process.pid, ended)
