"""Starts SIPp 3.6 in a scratch directory and reads what it wrote: counters, response times, messages."""

from __future__ import annotations

import csv
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from support.ports import tcp_listens, udp_is_bound
from support.waiting import until

SOCKET_BUFFER_BYTES = 4 * 1024 * 1024
_SHOWN_CHARACTERS = 6000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one SIPp process counted."""

    created: int = 0
    successful: int = 0
    failed: int = 0
    retransmitted: int = 0
    exit_code: int = 0
    times_ms: dict[str, list[float]] = field(default_factory=dict)
    """Response times by the name of their timer, in SIPp's own 4 ms steps."""
    errors: tuple[str, ...] = ()


class Sipp:
    """A SIPp process with a scenario; `target` None makes it wait for calls."""

    def __init__(
        self,
        scenario: str,
        *,
        port: int,
        target: tuple[str, int] | None,
        calls: int = 1,
        cpu: int | None = None,
        trace: bool = True,
        extra: Sequence[str] = (),
        kind: str = "udp",
    ) -> None:
        """`kind`: "udp", "tcp", "udp6" or "tcp6". Debian's SIPp 3.6 is built without TLS and knows no WebSocket."""
        host = "::1" if kind.endswith("6") else "127.0.0.1"
        self._is_tcp = kind.startswith("tcp")
        self._scratch = tempfile.TemporaryDirectory(prefix="sipp-")
        self.directory = Path(self._scratch.name)
        (self.directory / "scenario.xml").write_text(scenario, encoding="utf-8")
        command = ["taskset", "-c", str(cpu)] if cpu is not None else []
        command += ["sipp", *([_written(target)] if target else []), "-sf", "scenario.xml"]
        command += [
            "-i",
            host,
            "-p",
            str(port),
            "-t",
            "t1" if self._is_tcp else "u1",
            "-buff_size",
            str(SOCKET_BUFFER_BYTES),
        ]
        command += [
            "-nostdin",
            "-trace_stat",
            "-stf",
            "stat.csv",
            "-fd",
            "1",
            "-trace_err",
            "-error_file",
            "errors.log",
        ]
        command += ["-m", str(calls)] if calls else []
        command += ["-trace_msg", "-message_file", "messages.log"] if trace else []
        self.process = subprocess.Popen(
            [*command, *extra],
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.port = port

    def __enter__(self) -> Sipp:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._scratch.cleanup()

    def wait_ready(self) -> None:
        """Until its socket is bound, so that no request is lost."""

        def ready() -> bool:
            assert self.process.poll() is None, f"SIPp ended: {self.explain()}"
            return tcp_listens(self.port) if self._is_tcp else udp_is_bound(self.port)

        until(ready, timeout_s=10, what="SIPp's socket")

    def wait(self, timeout_s: float) -> Outcome:
        """Until it ends by itself; after the timeout it is stopped, which counts as exit code -1."""
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.stop()
            code = -1
        return self.outcome(code)

    def finish(self, timeout_s: float = 5) -> Outcome:
        """Ask it to take no more calls (SIGUSR1), then wait for its end."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGUSR1)
        return self.wait(timeout_s)

    def stop(self) -> None:
        """End it at once."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(3)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def outcome(self, exit_code: int) -> Outcome:
        """Counters as last written."""
        rows: list[dict[str, str]] = []
        stat = self.directory / "stat.csv"
        if stat.exists():
            with stat.open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file, delimiter=";"))
        last = rows[-1] if rows else {}
        return Outcome(
            created=int(last.get("TotalCallCreated", 0)),
            successful=int(last.get("SuccessfulCall(C)", 0)),
            failed=int(last.get("FailedCall(C)", 0)),
            retransmitted=int(last.get("Retransmissions(C)", 0)),
            exit_code=exit_code,
            times_ms=self._times(),
            errors=tuple(self._text("errors.log").splitlines()[:40]),
        )

    def explain(self) -> str:
        """Errors and the last messages, for an assertion's text."""
        messages = self._text("messages.log")[-_SHOWN_CHARACTERS:]
        return f"\n--- errors\n{self._text('errors.log')[:2000]}\n--- messages\n{messages}"

    def _text(self, name: str) -> str:
        path = self.directory / name
        return path.read_text(errors="replace") if path.exists() else ""

    def _times(self) -> dict[str, list[float]]:
        times: dict[str, list[float]] = {}
        for path in self.directory.glob("*_rtt.csv"):
            for line in path.read_text().splitlines()[1:]:
                parts = line.strip().split(";")
                if len(parts) >= 3:
                    times.setdefault(parts[2], []).append(float(parts[1]))
        return times


def _written(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
