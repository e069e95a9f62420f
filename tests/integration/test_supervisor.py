"""The supervisor with stub children: order of start and stop, restarts, deaths, deaf children, its own death."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pbx_cli.errors import CliError
from pbx_cli.up.plan import Plan, ProcessPlan
from pbx_cli.up.supervisor import Supervisor, stop_groups
from support import procfs, stub_service
from support.eventually import eventually
from support.ports import free_port
from support.waiting import until

pytestmark = pytest.mark.integration
STUB = str(Path(stub_service.__file__))


def stub(name: str, log: Path, behaviour: str = "", *, stop_s: float = 5) -> ProcessPlan:
    port = free_port()
    argv = (sys.executable, "-S", STUB, str(port), *([behaviour] if behaviour else []))
    environment = {"STUB_LOG": str(log), "PATH": os.environ["PATH"]}
    url = f"http://127.0.0.1:{port}"
    return ProcessPlan(name, argv, environment, {"http": url}, f"{url}/readyz", stop_s)


def port_of(plan: ProcessPlan) -> str:
    return plan.argv[3]


async def started(*stages: tuple[ProcessPlan, ...]) -> Supervisor:
    supervisor = Supervisor(Plan(stages))
    for index in range(len(stages)):
        await supervisor.start_stage(index)
    supervisor.keep()
    return supervisor


async def test_stages_stop_in_reverse_and_nothing_is_left(tmp_path: Path) -> None:
    log = tmp_path / "log"
    one, two, three, last = (stub(name, log) for name in ("one", "two", "three", "last"))
    supervisor = await started((one,), (two, three), (last,))
    pids = [child.pid for child in supervisor.children]
    assert [child.plan.name for child in supervisor.children] == ["one", "two", "three", "last"]
    assert all(map(procfs.is_alive, pids))
    assert await supervisor.stop()
    assert log.read_text().split() == [port_of(plan) for plan in (last, three, two, one)]
    assert not any(map(procfs.is_alive, pids))


async def test_a_child_that_dies_at_start_fails_the_start_and_is_named(tmp_path: Path) -> None:
    supervisor = Supervisor(Plan(((stub("good", tmp_path / "log"), stub("bad", tmp_path / "log", "die")),)))
    with pytest.raises(CliError, match="bad ended with exit code 3 before it was ready"):
        await supervisor.start_stage(0)
    pids = [child.pid for child in supervisor.children]
    await supervisor.stop()
    assert not any(map(procfs.is_alive, pids))


async def test_a_child_that_dies_later_comes_back(tmp_path: Path) -> None:
    restarts: list[int] = []
    plan = Plan(((stub("one", tmp_path / "log"),),))
    supervisor = Supervisor(plan, on_restart=lambda: restarts.append(1))
    await supervisor.start_stage(0)
    supervisor.keep()
    for count in (1, 2):
        before = supervisor.children[0].pid
        os.kill(before, signal.SIGKILL)
        await eventually(lambda count=count: len(restarts) == count)  # type: ignore[misc]
        assert supervisor.children[0].pid != before
    assert procfs.is_alive(supervisor.children[0].pid)
    await eventually(lambda: _answers(plan.processes[0]))
    assert await supervisor.stop()


async def test_a_deaf_child_is_killed_after_its_time(tmp_path: Path) -> None:
    supervisor = await started((stub("deaf", tmp_path / "log", "deaf", stop_s=0.2),))
    pid = supervisor.children[0].pid
    assert not await supervisor.stop()
    assert not procfs.is_alive(pid)


async def test_what_a_child_left_behind_dies_with_it(tmp_path: Path) -> None:
    supervisor = await started((stub("parent", tmp_path / "log", "child"),))
    family = procfs.descendants(supervisor.children[0].pid)
    assert len(family) == 2
    await supervisor.stop()
    await eventually(lambda: not any(map(procfs.is_alive, family)))


def test_replicas_of_a_service_stop_together_and_services_one_by_one(tmp_path: Path) -> None:
    first = stub("signaling-1", tmp_path)
    second = dataclasses.replace(first, name="signaling-2")
    other = stub("other", tmp_path)
    names = [[plan.name for plan in group] for group in stop_groups((other, first, second))]
    assert names == [["signaling-2", "signaling-1"], ["other"]]


SUPERVISED = """
import asyncio, sys
from pbx_cli.up.plan import Plan, ProcessPlan
from pbx_cli.up.supervisor import Supervisor
async def main():
    name, argv, ready, log = sys.argv[1], tuple(sys.argv[4:]), sys.argv[2], sys.argv[3]
    supervisor = Supervisor(Plan(((ProcessPlan(name, argv, {"STUB_LOG": log}, {}, ready, 5),),)))
    await supervisor.start_stage(0)
    print(supervisor.children[0].pid, flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


def test_children_die_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    plan = stub("orphan", tmp_path / "log")
    argv = [sys.executable, "-c", SUPERVISED, plan.name, plan.ready, str(tmp_path / "log"), *plan.argv]
    supervisor = subprocess.Popen(argv, stdout=subprocess.PIPE)
    assert supervisor.stdout is not None
    with supervisor.stdout:
        pid = int(supervisor.stdout.readline())
        assert procfs.is_alive(pid)
        supervisor.kill()
        supervisor.wait(10)
        until(lambda: not procfs.is_alive(pid), timeout_s=5, what="the child is gone")


def _answers(plan: ProcessPlan) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(port_of(plan)))) == 0
