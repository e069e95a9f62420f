"""The servers that are put under the same load: this product, and the peers that are installed here.

A peer does less work than the product and says so in `what`.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from support import procfs
from support.ports import free_port, udp_is_bound
from support.product import DOMAIN, UNLIMITED, Product, Settings
from support.waiting import until
from support.wire import Credentials

USERS = 200
PASSWORD = "load-secret"
_PEERS = Path(__file__).parent / "peers"
_RELAY_RANGE = (20_000, 65_535)
"""Above the ports of tests' servers (`support.ports`). A slot rests 10 s after its call, so many are needed for a short
run; one with a port that the kernel lent to somebody is taken out."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs."""

    name: str
    what: str
    """What it is and what it leaves out."""
    address: tuple[str, int]
    domain: str
    pids: Callable[[], Mapping[str, set[int]]]
    """Its processes by service."""
    digest: bool = True
    """Challenges INVITE and REGISTER."""
    registrar: bool = True
    called_port: int = 0
    """Where a server without a registrar sends every call; 0 otherwise."""
    product: Product | None = None


def users() -> tuple[Credentials, ...]:
    """The accounts of the load."""
    return tuple(Credentials(f"u{number}", PASSWORD) for number in range(USERS))


def _raise_descriptor_limit() -> None:
    """As a container runtime gives it: eight sockets for each of thousands of slots. Only root may."""
    most = int(Path("/proc/sys/fs/nr_open").read_text())
    with contextlib.suppress(ValueError, PermissionError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextlib.contextmanager
def ours(replicas: int = 1, **environment: str) -> Iterator[Server]:
    """This product, started for the measurement; with several signaling processes it may use every core."""
    _raise_descriptor_limit()
    settings = Settings(
        users(),
        relay_range=_RELAY_RANGE,
        replicas=replicas,
        environment=UNLIMITED | {"PBX_LOG_LEVEL": "warning"} | environment,
    )
    with Product(settings) as product:

        def pids() -> Mapping[str, set[int]]:
            return {process.name: procfs.descendants(process.pid) for process in product.processes}

        yield Server(
            "sip-pbx",
            "B2BUA, digest, registrar, relay slot, events, CDR",
            product.sip,
            DOMAIN,
            pids,
            product=product,
        )


@contextlib.contextmanager
def kamailio() -> Iterator[Server]:
    """Kamailio as a registrar and stateful proxy: no B2BUA, no media, no CDR."""
    port = free_port()
    command = [
        shutil.which("kamailio") or "/usr/sbin/kamailio",
        "-f",
        str(_PEERS / "kamailio.cfg"),
        "-m",
        "256",
    ]
    command += ["-M", "16", "-DD", "-E", "-A", f'PASSWORD="{PASSWORD}"', "-l", f"udp:127.0.0.1:{port}"]
    with _running(command, port) as process:
        yield Server(
            "kamailio", "registrar and stateful proxy with digest: one dialog, no relay slot, no CDR",
            ("127.0.0.1", port), DOMAIN, lambda: {"kamailio": procfs.descendants(process.pid)},
        )  # fmt: skip


@contextlib.contextmanager
def sippy() -> Iterator[Server]:
    """sippy's b2bua_simple: a Python B2BUA with a fixed next hop, without registrar, digest, media, CDR."""
    port, called_port = free_port(), free_port()
    command = [
        _sippy_command() or "",
        "-f",
        "-l",
        "127.0.0.1",
        "-p",
        str(port),
        "-n",
        f"127.0.0.1:{called_port}",
    ]
    with _running(command, port, SIPLOG_BEND="none") as process:
        yield Server(
            "sippy", "Python B2BUA, fixed next hop: no registrar, no digest, no relay slot, no CDR",
            ("127.0.0.1", port), DOMAIN, lambda: {"sippy": procfs.descendants(process.pid)},
            digest=False, registrar=False, called_port=called_port,
        )  # fmt: skip


def installed() -> dict[str, Callable[[], contextlib.AbstractContextManager[Server]]]:
    """The peers that can be started here."""
    found: dict[str, Callable[[], contextlib.AbstractContextManager[Server]]] = {}
    if shutil.which("kamailio") or Path("/usr/sbin/kamailio").exists():
        found["kamailio"] = kamailio
    if _sippy_command():
        found["sippy"] = sippy
    return found


def _sippy_command() -> str | None:
    beside = str(Path(sys.executable).parent)
    named = os.environ.get("SIPPY_B2BUA")
    return named or shutil.which("b2bua_simple", path=beside) or shutil.which("b2bua_simple")


@contextlib.contextmanager
def _running(command: list[str], port: int, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    with tempfile.TemporaryDirectory(prefix="peer-") as directory:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            until(lambda: udp_is_bound(port), timeout_s=15, what=f"{command[0]} on {port}")
            time.sleep(0.5)  # worker processes of a peer come up after its socket
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                for pid in procfs.descendants(process.pid):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, 9)
                process.wait()


def missing() -> list[str]:
    """Peers that cannot be started here."""
    return sorted({"kamailio", "sippy"} - installed().keys())
