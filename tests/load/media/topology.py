"""Three network namespaces on one machine: caller <-veth-> relay <-veth-> callee, the relay's softirqs on one core.

The ends have no address: their kernels answer nothing, the load generator plays them with raw frames. Traffic never
leaves the namespaces, whose names carry this process's id.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

RELAY_CORE, LOAD_CORE = 0, 1
PREFIX = f"pbxb{os.getpid() % 100000}"


def sh(command: str) -> None:
    """Run one command; its error text becomes the exception's."""
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stderr.strip()}")


@dataclass(frozen=True, slots=True)
class End:
    """One side: its namespace, devices and addresses."""

    netns: str
    device: str
    relay_device: str
    mac: str
    relay_mac: str
    host: str
    relay_host: str


CALLER = End(f"{PREFIX}a", "a0", "ra", "02:10:00:00:00:02", "02:10:00:00:00:01", "10.10.0.2", "10.10.0.1")
CALLEE = End(f"{PREFIX}b", "b0", "rb", "02:20:00:00:00:02", "02:20:00:00:00:01", "10.20.0.2", "10.20.0.1")
RELAY = f"{PREFIX}r"


class Topology:
    """The namespaces, for as long as the context lasts."""

    def __enter__(self) -> Topology:
        self._remove()
        for name in (RELAY, CALLER.netns, CALLEE.netns):
            sh(f"ip netns add {name}")
            sh(f"ip -n {name} link set lo up")
        sh(f"ip netns exec {RELAY} sysctl -qw net.ipv4.ip_forward=1 net.ipv4.ip_local_reserved_ports=30000-39999")
        for end in (CALLER, CALLEE):
            sh(
                f"ip link add {end.device} netns {end.netns} address {end.mac} type veth"
                f" peer name {end.relay_device} netns {RELAY} address {end.relay_mac}"
            )
            sh(f"ip -n {RELAY} addr add {end.relay_host}/24 dev {end.relay_device}")
            sh(f"ip -n {RELAY} link set {end.relay_device} up")
            sh(f"ip -n {end.netns} link set {end.device} up")
            sh(f"ip -n {RELAY} neigh replace {end.host} lladdr {end.mac} dev {end.relay_device} nud permanent")
            _steer(RELAY, end.relay_device, RELAY_CORE)
            _steer(end.netns, end.device, LOAD_CORE)
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    def _remove(self) -> None:
        for name in (RELAY, CALLER.netns, CALLEE.netns):
            if Path("/run/netns", name).exists():
                sh(f"ip netns del {name}")


def _steer(netns: str, device: str, core: int) -> None:
    sh(f"ip netns exec {netns} sh -c 'echo {1 << core:x} > /sys/class/net/{device}/queues/rx-0/rps_cpus'")


def leg_lines(calls: list[tuple[int, int]]) -> list[str]:
    """The load generator's file: per call the relay's port for the caller and for the callee."""
    lines = []
    for number, (at_caller, at_callee) in enumerate(calls):
        for end, port in ((CALLER, at_caller), (CALLEE, at_callee)):
            own = phone_port(number)
            lines.append(f"{end.netns} {end.device} {end.mac} {end.relay_mac} {end.host} {own} {end.relay_host} {port}")
    return lines


def forwarded_lines(count: int) -> list[str]:
    """The same without a relay: the kernel routes between the two ends."""
    lines = []
    for number in range(count):
        own = phone_port(number)
        for end, other in ((CALLER, CALLEE), (CALLEE, CALLER)):
            lines.append(f"{end.netns} {end.device} {end.mac} {end.relay_mac} {end.host} {own} {other.host} {own}")
    return lines


def phone_port(number: int) -> int:
    """A phone's RTP port; the same at both ends."""
    return 20000 + 2 * number
