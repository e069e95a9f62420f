"""A JsSIP phone in Node over WebSocket, without media. Its packages are fetched once, by npm, into `build`."""

from __future__ import annotations

import fcntl
import functools
import json
import os
import queue
import shutil
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from support.wire import Credentials

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "tests" / "interop" / "jssip"
INSTALLED = ROOT / "build" / "jssip"
INSTALL_S = 120


@functools.cache
def missing() -> str:
    """Why there is no JsSIP here; empty where there is. Installs it where it can."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return "node and npm are not installed"
    INSTALLED.mkdir(parents=True, exist_ok=True)
    with (INSTALLED / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test processes run in parallel
        for name in ("package.json", "phone.js"):
            shutil.copyfile(SOURCE / name, INSTALLED / name)
        if (INSTALLED / "node_modules" / "jssip").is_dir() and (INSTALLED / "node_modules" / "ws").is_dir():
            return ""
        command = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"]
        try:
            subprocess.run(command, cwd=INSTALLED, check=True, capture_output=True, timeout=INSTALL_S)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            return "npm cannot fetch jssip and ws"
    return ""


class JsSip:
    """One phone process; use it as a context manager."""

    def __init__(self, url: str, credentials: Credentials, domain: str, trust: Path | None = None) -> None:
        given = {"url": url, "user": credentials.user, "password": credentials.password, "domain": domain}
        extra: Mapping[str, str] = {} if trust is None else {"NODE_EXTRA_CA_CERTS": str(trust)}
        self.process = subprocess.Popen(
            ["node", "phone.js", json.dumps(given)],
            cwd=INSTALLED,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | extra,
            text=True,
        )
        self._events: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.command("quit")
            try:
                self.process.wait(3)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._reader.join(2)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def command(self, do: str, **more: str) -> None:
        """Have it do something; see phone.js."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **more}) + "\n")
        self.process.stdin.flush()

    def wait_for(self, event: str, timeout_s: float = 10, **fields: str) -> dict[str, Any]:
        """The next event of that name with those fields; others are dropped, failures are not."""
        deadline, seen = time.monotonic() + timeout_s, list[str]()
        while True:
            try:
                line = self._events.get(timeout=max(0.001, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {event} {fields} within {timeout_s:g} s; got {seen}") from None
            seen.append(line.rstrip())
            found: dict[str, Any] = json.loads(line) if line.startswith("{") else {}
            if found.get("event") == event and all(found.get(name) == value for name, value in fields.items()):
                return found
            assert found.get("event") not in ("failed", "registrationFailed"), seen

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._events.put(line)
