"""A phone in a process that is told by lines what to do, and tells what it sees (`tests/interop/*/phone.*`)."""

from __future__ import annotations

import fcntl
import functools
import queue
import re
import shutil
import subprocess
import sys
import threading
import time
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from support.ports import free_port
from support.wire import Credentials

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "tests" / "interop"
PJSUA = ROOT / "build" / "pjsua"
PJSUA_PYTHON = PJSUA / "bin" / "python"
PJSUA_REQUIREMENTS = SCRIPTS / "pjsua" / "requirements.txt"
INSTALL_S = 120


class ScriptPhone:
    """One process; use it as a context manager."""

    def __init__(self, command: Sequence[str]) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self.lines: list[str] = []
        self._new: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            try:
                self.command("quit")
                self.process.wait(5)
            except (subprocess.TimeoutExpired, BrokenPipeError):
                self.process.kill()
                self.process.wait()
        self._reader.join(2)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def command(self, text: str) -> None:
        """Tells it something."""
        assert self.process.stdin is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def wait_for(self, pattern: str, timeout_s: float = 15) -> re.Match[str]:
        """The next line that the pattern matches as a whole; those before are dropped."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                line = self._new.get(timeout=max(0.001, deadline - time.monotonic()))
            except queue.Empty:
                said = "\n".join(self.lines[-60:])
                raise AssertionError(f"no {pattern!r} within {timeout_s:g} s; it said\n{said}") from None
            found = re.fullmatch(pattern, line)
            if found is not None:
                return found

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            self._new.put(line.rstrip())


def net_sip(server: tuple[str, int], credentials: Credentials, domain: str) -> ScriptPhone:
    """A phone of Perl's Net::SIP, over UDP."""
    host, port = server
    script = str(SCRIPTS / "net_sip" / "phone.pl")
    who = (credentials.user, credentials.password, domain)
    return ScriptPhone(["perl", script, f"{host}:{port}", *who, f"127.0.0.1:{free_port()}"])


@functools.cache
def net_sip_missing() -> str:
    """Why there is no Net::SIP here; empty where there is."""
    if shutil.which("perl") is None:
        return "not run: perl is missing"
    there = subprocess.run(["perl", "-MNet::SIP", "-e", "1"], capture_output=True, check=False).returncode == 0
    return "" if there else "not run: Net::SIP is missing (Debian libnet-sip-perl)"


def pjsua(server: tuple[str, int], credentials: Credentials, domain: str, kind: str = "udp") -> ScriptPhone:
    """A phone of PJSIP; `kind`: "udp", "tcp" or "tls" (whose certificate it does not verify)."""
    host, port = server
    script = str(SCRIPTS / "pjsua" / "phone.py")
    who = (credentials.user, credentials.password, domain)
    return ScriptPhone([str(PJSUA_PYTHON), script, host, str(port), kind, *who])


@functools.cache
def pjsua_missing() -> str:
    """Why there is no pjsua2 here; empty where there is. Installs it where it can, apart from what is locked: GPL."""
    PJSUA.parent.mkdir(parents=True, exist_ok=True)
    with (PJSUA.parent / "pjsua.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test processes run in parallel
        if not PJSUA_PYTHON.exists():
            venv.create(PJSUA, with_pip=True)
        if _imports_pjsua():
            return ""
        command = [
            str(PJSUA_PYTHON),
            "-m",
            "pip",
            "install",
            "-q",
            "--retries=1",
            "--require-hashes",
            "--only-binary=:all:",
        ]
        try:
            subprocess.run(
                [*command, "-r", str(PJSUA_REQUIREMENTS)], check=True, capture_output=True, timeout=INSTALL_S
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            return (
                f"not run: pip cannot fetch pjsua2-python for Python {sys.version_info.major}.{sys.version_info.minor}"
            )
        return "" if _imports_pjsua() else "not run: pjsua2 does not load here"


def _imports_pjsua() -> bool:
    return subprocess.run([str(PJSUA_PYTHON), "-c", "import pjsua2"], capture_output=True, check=False).returncode == 0
