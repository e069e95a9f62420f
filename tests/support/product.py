"""The whole product on this machine: `sip-pbx up` on free ports of loopback, as a black box.

Knows the command line, its JSON and the HTTP API only. The program is the `sip-pbx` beside the running Python, or
the one that the variable SIP_PBX names. `stop` is a test of its own: exit code 0, and no
process is left.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import IO, Any, Final

from support import procfs
from support.phone import Phone
from support.ports import free_block, free_port, give_back_block
from support.scrape import Metrics
from support.stream_phone import PHONES
from support.waiting import until
from support.wire import Credentials

READY_S = 120
STOP_S = 40
RELEASE_S = 15
"""How long after the last BYE everything of a call may linger where no RFC timer says more."""
DOMAIN = "pbx.local"
_SHOWN_CHARACTERS = 4000
_CALL_GAUGES = tuple(
    f"pbx_signaling_{of}" for of in ("calls_active", "calls_waiting", "legs_active", "journal_backlog")
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a test asks of the product."""

    accounts: tuple[Credentials, ...]
    relay_ports: int = 1024
    """How many; they are looked for."""
    relay_range: tuple[int, int] | None = None
    """These very ones, first and last, though some be taken (the relay leaves such slots out)."""
    replicas: int = 1
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    program: str = ""
    """What to start; see the module's text."""
    ready_s: float = READY_S
    """How long it may take until all is ready."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process of the product, as `--json` names it."""

    name: str
    pid: int
    addresses: Mapping[str, str]


class Product:
    """Started by `start`, ended by `stop`; as a context manager it does both."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._scratch = tempfile.TemporaryDirectory(prefix="sip-pbx-")
        self.data = Path(self._scratch.name)
        self.sip = ("127.0.0.1", free_port())
        self.http = f"http://127.0.0.1:{free_port()}"
        self.relay_ports = settings.relay_range or free_block(settings.relay_ports)
        self.processes: tuple[Process, ...] = ()
        self.document: dict[str, Any] = {}
        self._log = (self.data / "test.log").open("w+b")
        self._supervisor: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Product:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        try:
            if failure is None:
                self.stop()
        finally:
            self.close()

    @property
    def pid(self) -> int:
        """Of the supervisor."""
        assert self._supervisor is not None
        return self._supervisor.pid

    @property
    def pids(self) -> set[int]:
        """All processes of the product that live."""
        named = {process.pid for process in self.processes if procfs.is_alive(process.pid)}
        return named | procfs.descendants(self.pid)

    def pid_of(self, name: str) -> int:
        """The pid of the first process whose name begins so."""
        for process in self.processes:
            if process.name.startswith(name):
                return self._live_pid(process)
        raise KeyError(f"no process {name} in {[p.name for p in self.processes]}")

    def start(self) -> None:
        """Start and wait until everything is ready."""
        named = self.settings.program or os.environ.get("SIP_PBX")
        program = named or str(Path(sys.executable).with_name("sip-pbx"))
        command = [program, "up"]
        low, high = self.relay_ports
        command += ["--sip", f"{self.sip[0]}:{self.sip[1]}", "--advertise", self.sip[0]]
        command += ["--http", self.http.removeprefix("http://"), "--relay-ports", f"{low}-{high}"]
        command += [
            "--data",
            str(self.data),
            "--domain",
            DOMAIN,
            "--replicas",
            str(self.settings.replicas),
            "--json",
        ]
        for account in self.settings.accounts:
            command += ["--account", f"{account.user}:{account.password}"]
        self._supervisor = subprocess.Popen(
            [*command, *self.settings.arguments],
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=os.environ | dict(self.settings.environment),
        )
        try:
            assert self._supervisor.stdout is not None
            self.document = self._read_document(self._supervisor.stdout)
        except BaseException:
            self.kill()
            raise
        self.processes = tuple(
            Process(p["name"], int(p["pid"]), dict(p.get("addresses") or {})) for p in self.document["processes"]
        )

    def stop(self) -> None:
        """SIGTERM; it must end with 0 and leave no process."""
        pids = self.pids
        os.kill(int(self.document["pid"]), signal.SIGTERM)
        self.wait_stopped(pids)

    def wait_stopped(self, pids: set[int]) -> None:
        """After a SIGTERM: it must end with 0, and none of the processes may be left."""
        assert self._supervisor is not None
        try:
            code = self._supervisor.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"still there {STOP_S} s after SIGTERM\n{self.log()}") from None
        until(lambda: not any(map(procfs.is_alive, pids)), timeout_s=2, what="all processes gone")
        assert code == 0, f"exit code {code}\n{self.log()}"

    def again(self) -> Product:
        """The same product, to be started again on the same data and addresses."""
        other = Product(replace(self.settings, relay_range=self.relay_ports))
        other.sip, other.http, other.data = self.sip, self.http, self.data
        return other

    def close(self) -> None:
        """End what still runs, and remove its data."""
        self.kill()
        if self._supervisor is not None and self._supervisor.stdout is not None:
            self._supervisor.stdout.close()
        self._log.close()
        self._scratch.cleanup()
        give_back_block(self.relay_ports)

    def kill(self) -> None:
        """End it and what it started at once, asserting nothing."""
        if self._supervisor is None or self._supervisor.poll() is not None:
            return
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._supervisor.wait(10)

    def log(self) -> str:
        """The end of what it wrote to stderr."""
        self._log.flush()
        return (self.data / "test.log").read_text(errors="replace")[-_SHOWN_CHARACTERS:]

    # What a tool sees of it

    def phone(self, user: str, port: int = 0) -> Phone:
        """A phone of one of its accounts."""
        return Phone(self.sip, self.credentials(user), domain=DOMAIN, port=port)

    def phone_on(self, kind: str, user: str, port: int = 0) -> Phone:
        """A phone of one of its accounts over "udp", "tcp", "tls", "ws", "wss"; "udp6" and "tcp6" over IPv6."""
        server = self.server(kind)
        make = PHONES[kind.rstrip("6")]
        host = "::1" if ":" in server[0] else "127.0.0.1"
        return make(server, self.credentials(user), domain=DOMAIN, host=host, port=port)

    def server(self, kind: str) -> tuple[str, int]:
        """Where a transport is served; see `phone_on`."""
        if kind in ("udp", "tcp"):
            return self.sip
        addresses = next(process.addresses for process in self.processes if process.name.startswith("signaling"))
        host, _, port = addresses["sip_ipv6" if kind in ("udp6", "tcp6") else f"sip_{kind}"].rpartition(":")
        return host.strip("[]"), int(port)

    def credentials(self, user: str) -> Credentials:
        """Name and password of an account."""
        return next(account for account in self.settings.accounts if account.user == user)

    def get(self, path: str, **query: str | int) -> dict[str, Any]:
        """A GET of the API; the JSON object answered."""
        url = f"{self.http}{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        document: dict[str, Any] = json.loads(fetch(url))
        return document

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """A POST of JSON to the API; the JSON object answered."""
        document: dict[str, Any] = json.loads(fetch(f"{self.http}{path}", json.dumps(body).encode()) or b"{}")
        return document

    def hang_up(self, call_id: str) -> None:
        """Ends a live call by the API."""
        request = urllib.request.Request(f"{self.http}/v1/calls/{call_id}", method="DELETE")
        with urllib.request.urlopen(request, timeout=10):
            pass

    def calls(self) -> list[dict[str, Any]]:
        """Live calls."""
        items: list[dict[str, Any]] = self.get("/v1/calls")["items"]
        return items

    def cdrs(self, **query: str | int) -> list[dict[str, Any]]:
        """All CDRs that match, over all pages."""
        found: list[dict[str, Any]] = []
        while True:
            page = self.get("/v1/cdrs", **query)
            found += page["items"]
            if not page["next"]:
                return found
            query["cursor"] = page["next"]

    def cdr(self, **query: str | int) -> dict[str, Any]:
        """The one CDR that matches; waits until it is written."""
        return self.cdrs_of(1, 15, **query)[0]

    def cdrs_of(self, count: int, timeout_s: float = 15, **query: str | int) -> list[dict[str, Any]]:
        """The CDRs that match, once so many are closed; more of them are an error."""

        def closed() -> list[dict[str, Any]]:
            found = [cdr for cdr in self.cdrs(limit=1000, **query) if cdr["ended_at"]]
            return found if len(found) >= count else []

        found = until(closed, timeout_s=timeout_s, what=f"{count} CDRs {query}")
        assert len(found) == count, found
        return found

    def metrics(self, name: str) -> Metrics:
        """Metrics of the first process whose name begins so."""
        for process in self.processes:
            if process.name.startswith(name) and "http" in process.addresses:
                address = process.addresses["http"].removeprefix("http://")
                return Metrics.parse(fetch(f"http://{address}/metrics").decode())
        raise KeyError(f"no process {name} with an HTTP address in {self.processes}")

    def assert_all_released(self, timeout_s: float = RELEASE_S) -> None:
        """No live call and no relay slot in use (quarantine is no use)."""
        until(lambda: not self.calls(), timeout_s=timeout_s, what="no live call")
        for gauge in _CALL_GAUGES:
            until(partial(self._is_zero, gauge), timeout_s=timeout_s, what=f"{gauge} 0")
        until(lambda: self.slots_used() == 0, timeout_s=timeout_s, what="no slot in use")

    def _is_zero(self, gauge: str) -> bool:
        names = [process.name for process in self.processes if process.name.startswith("signaling")]
        return all(self.metrics(name).sum(gauge) == 0 for name in names)

    def slots_used(self) -> int:
        """Slots that calls hold on all relays."""
        return round(self.metrics("media-relay").sum("pbx_relay_slots", state="used"))

    def slots_free(self) -> int:
        """Slots that a call could get now on all relays."""
        return round(self.metrics("media-relay").sum("pbx_relay_slots", state="free"))

    def _live_pid(self, process: Process) -> int:
        if procfs.is_alive(process.pid):
            return process.pid
        # Restarted by the supervisor: its pid is a new one, its command line the same kind.
        for pid in procfs.descendants(self.pid):
            with contextlib.suppress(OSError):
                if process.name.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"_", b"-"):
                    return pid
        raise KeyError(f"{process.name} is not running")

    def _read_document(self, stdout: IO[bytes]) -> dict[str, Any]:
        deadline, text = time.monotonic() + self.settings.ready_s, b""
        while time.monotonic() < deadline:
            readable, _, _ = select.select([stdout], [], [], 0.2)
            if readable:
                chunk = os.read(stdout.fileno(), 65536)
                text += chunk
                with contextlib.suppress(json.JSONDecodeError):
                    document: dict[str, Any] = json.loads(text)
                    return document
                if not chunk:
                    break
        raise AssertionError(f"not ready within {self.settings.ready_s:g} s; stdout: {text!r}\n{self.log()}")


def fetch(url: str, body: bytes | None = None, *, timeout_s: float = 10) -> bytes:
    """A GET, or a POST of JSON; the body answered. AssertionError with the answer on an HTTP error."""
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"} if body else {})
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:
            answer: bytes = response.read()
            return answer
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{url}: {error.code} {error.read()[:500]!r}") from None


UNLIMITED: Final = {
    "PBX_ACCOUNT_CALLS": "0",
    "PBX_ACCOUNT_CALLS_PER_S": "0",
    "PBX_SOURCE_CALLS": "0",
    "PBX_SOURCE_CALLS_PER_S": "0",
    "PBX_CALLEE_RINGING": "0",
}
"""For loads whose calls all come from a few accounts of one address."""


def accounts(count: int, *, first: int = 2000) -> tuple[Credentials, ...]:
    """The product's own two accounts, 1004 and 1008, and a row of numbered ones."""
    numbers: Sequence[int] = (1004, 1008, *range(first, first + count))
    return tuple(Credentials(str(number), f"secret-{number}") for number in numbers)


def installed(program: str) -> bool:
    """Whether a program is on the PATH or beside the running Python."""
    return bool(shutil.which(program) or shutil.which(program, path=str(Path(sys.executable).parent)))
