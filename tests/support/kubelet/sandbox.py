"""Where containers run: a network namespace for a pod or a node, and for each container a root of its own.

The root is this machine's, seen through an overlay that forgets what is written, with the pod's volumes mounted into
it, read-only where the container says so. There are no images: every container finds the virtual environment of this
checkout on its PATH, and what its command names there.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

PATH = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
BRIDGE = "br0"
PREFIX = 16


def run(*command: str, check: bool = True) -> None:
    """A short command."""
    subprocess.run(command, check=check, capture_output=True)


@dataclass
class Network:
    """A network namespace with one interface on the cluster's bridge, held by a process that sleeps."""

    address: str
    more: tuple[str, ...] = ()
    """Addresses beside it, as a node's external one."""
    holder: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        """Make it, and lead it to the bridge of the namespace in which this runs."""
        self.holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        pid = str(self.holder.pid)
        while os.readlink(f"/proc/{pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            pass
        host = f"v{pid}"
        run("ip", "link", "add", host, "type", "veth", "peer", "name", "eth0", "netns", pid)
        run("ip", "link", "set", host, "master", BRIDGE, "up")
        inside = ["nsenter", "-t", pid, "-n", "ip"]
        run(*inside, "link", "set", "lo", "up")
        run(*inside, "address", "add", f"{self.address}/{PREFIX}", "dev", "eth0")
        run(*inside, "link", "set", "eth0", "up")
        for address in self.more:
            run(*inside, "address", "add", f"{address}/32", "dev", "eth0")
        # External addresses of nodes are on the same wire.
        run(*inside, "route", "add", "203.0.113.0/24", "dev", "eth0")

    def close(self) -> None:
        """The namespace ends with its last process."""
        self.holder.kill()
        self.holder.wait()


@dataclass(frozen=True)
class Mount:
    """A directory or file of this machine, where a container sees it."""

    source: Path
    target: str
    read_only: bool = False


@dataclass
class Process:
    """A container that runs, or ran."""

    popen: subprocess.Popen[bytes]
    environment: Mapping[str, str]

    @property
    def pid(self) -> int:
        """Its first process."""
        return self.popen.pid

    def inside(self, command: Sequence[str]) -> list[str]:
        """The command line that runs something in the container."""
        pid = str(self.pid)
        told = [f"{name}={value}" for name, value in self.environment.items()]
        return ["nsenter", "-t", pid, "-n", "-m", "--root", "--wd", "env", "-i", *told, *command]

    def signal(self, number: signal.Signals) -> None:
        """To its first process."""
        if self.popen.poll() is None:
            self.popen.send_signal(number)


def start(
    network: Network, scratch: Path, mounts: Sequence[Mount], container: dict[str, Any], command: Sequence[str],
    environment: Mapping[str, str], log: IO[bytes],
) -> Process:  # fmt: skip
    """Run a container's command. `scratch` is an empty directory of its own."""
    environment = {"PATH": PATH, "HOME": "/", **environment}
    script = "\n".join(_script(scratch, mounts, container, command, environment))
    outer = ["nsenter", "-t", str(network.holder.pid), "-n", "unshare", "--mount", "--propagation", "private"]
    return Process(
        subprocess.Popen([*outer, "sh", "-ec", script], stdin=subprocess.DEVNULL, stdout=log, stderr=log), environment
    )


def _script(
    scratch: Path, mounts: Sequence[Mount], container: dict[str, Any], command: Sequence[str],
    environment: Mapping[str, str],
) -> list[str]:  # fmt: skip
    root = scratch / "root"
    lines = [
        f"mount -t tmpfs tmpfs {scratch}",
        f"mkdir {scratch}/up {scratch}/work {root}",
        f"mount -t overlay overlay -o lowerdir=/,upperdir={scratch}/up,workdir={scratch}/work {root}",
    ]
    for mount in mounts:
        target = shlex.quote(f"{root}{mount.target}")
        make = f"mkdir -p {target}" if mount.source.is_dir() else f"mkdir -p $(dirname {target}); touch {target}"
        lines.append(f"{make}; mount --bind {shlex.quote(str(mount.source))} {target}")
        if mount.read_only:
            lines.append(f"mount -o remount,bind,ro {target}")
    if (container.get("securityContext") or {}).get("readOnlyRootFilesystem"):
        lines.append(f"mount -o remount,ro {root}")
    lines += [f"mount -t proc proc {root}/proc", f"mount --rbind /dev {root}/dev", f"mount --rbind /sys {root}/sys"]
    told = [shlex.quote(f"{name}={value}") for name, value in environment.items()]
    lines.append(" ".join(["exec", "chroot", str(root), "env", "-i", *told, *map(shlex.quote, command)]))
    return lines
