"""A real PostgreSQL for a test: in a temporary directory, on a free port of loopback, stopped by its pid."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from support.ports import free_port
from support.waiting import until

START_S = 30
_DEBIAN = "/usr/lib/postgresql"


def program(name: str) -> str | None:
    """A program of PostgreSQL: the newest of Debian's, else the one on the PATH; None where there is none."""
    versions = sorted(Path(_DEBIAN).glob(f"*/bin/{name}"), key=lambda path: float(path.parts[4]))
    return str(versions[-1]) if versions else shutil.which(name)


@dataclass
class PostgresServer:
    """One server; its data lives in `directory`."""

    directory: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """For `DATABASE_URL`."""
        return f"postgresql://pbx@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.process = self._run("postgres", "-D", self._data, "-p", str(self.port), "-k", "", "-h", "127.0.0.1")
        until(self._answers, timeout_s=START_S, what="PostgreSQL answers")

    def prepare(self) -> None:
        """Make its data directory. PostgreSQL refuses to run as root, so root becomes "nobody"."""
        if os.geteuid() == 0:
            shutil.chown(self.directory, *self._nobody())
        assert self._run("initdb", "-D", self._data, "-U", "pbx", "-A", "trust", "-N").wait(60) == 0

    def stop(self) -> None:
        """SIGINT (fast shutdown), and wait."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(20)
            self.process = None

    @property
    def _data(self) -> str:
        return str(self.directory / "data")

    def _run(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        path = program(name)
        assert path is not None, f"no {name}"
        user, group = self._nobody() if os.geteuid() == 0 else (None, None)
        with Path(f"{self.directory}.log").open("ab") as log:
            return subprocess.Popen(
                [path, *arguments], stdout=log, stderr=log, user=user, group=group, cwd=self.directory
            )

    @staticmethod
    def _nobody() -> tuple[int, int]:
        entry = pwd.getpwnam("nobody")
        return entry.pw_uid, entry.pw_gid

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, Path(f"{self.directory}.log").read_text()
        # An open port is not enough: while it starts up it takes connections and refuses them.
        return self._run("pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)).wait(10) == 0


@contextlib.contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A running server that ends with the block."""
    with tempfile.TemporaryDirectory(prefix="postgres-") as scratch:
        server = PostgresServer(Path(scratch))
        server.prepare()
        try:
            server.start()
            yield server
        finally:
            server.stop()
            Path(f"{scratch}.log").unlink(missing_ok=True)
