"""A linphonec phone (liblinphone, belle-sip) in a scratch directory, without a sound card: it plays files."""

from __future__ import annotations

import os
import queue
import re
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Self

from support.ports import free_block, free_port, give_back_block
from support.wire import Credentials

_RTP_PORTS = 16


class Linphone:
    """One process; use it as a context manager."""

    def __init__(self, server: tuple[str, int], credentials: Credentials, domain: str, transport: str = "udp") -> None:
        """`transport`: "udp", "tcp" or "tls" (whose certificate it does not verify)."""
        self._scratch = tempfile.TemporaryDirectory(prefix="linphone-")
        directory = Path(self._scratch.name)
        (directory / ".local" / "share" / "linphone").mkdir(parents=True)
        settings = directory / "rc"
        self._rtp_ports = free_block(_RTP_PORTS)
        text = _settings(server, credentials, domain, transport, self._rtp_ports)
        settings.write_text(text, encoding="utf-8")
        self.process = subprocess.Popen(
            ["linphonec", "-c", str(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env=os.environ | {"HOME": str(directory)},
            text=True,
            errors="replace",
        )
        self.lines: list[str] = []
        self._new: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.command("soundcard use files")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.command("quit")
            try:
                self.process.wait(1)
            except subprocess.TimeoutExpired:  # it waits for what it cannot have
                self.process.kill()
                self.process.wait()
        self._reader.join(2)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        self._scratch.cleanup()
        give_back_block(self._rtp_ports)

    def command(self, text: str) -> None:
        """Type a line: call URI, answer, pause, resume, terminate, or a digit."""
        assert self.process.stdin is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def wait_for(self, pattern: str, timeout_s: float = 15) -> re.Match[str]:
        """The next line in which the pattern is found; those before are dropped."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                line = self._new.get(timeout=max(0.001, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {pattern!r} within {timeout_s:g} s; it said\n{self.log()}") from None
            found = re.search(pattern, line)
            if found is not None:
                return found

    def log(self) -> str:
        """The end of what it said."""
        return "\n".join(self.lines[-60:])

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            self._new.put(line.rstrip())


def _settings(
    server: tuple[str, int], credentials: Credentials, domain: str, transport: str, rtp_ports: tuple[int, int]
) -> str:
    ports = {"udp": -1, "tcp": -1, "tls": -1} | {transport: free_port()}
    proxy = f"<sip:{server[0]}:{server[1]};transport={transport};lr>"
    return "\n".join(
        (
            "[sip]",
            *(f"sip_{'' if kind == 'udp' else kind + '_'}port={port}" for kind, port in ports.items()),
            *("verify_server_certs=0", "verify_server_cn=0", "guess_hostname=0", "default_proxy=0", "use_ipv6=0"),
            *("[proxy_0]", f"reg_proxy={proxy}", f"reg_route={proxy}"),
            *(f"reg_identity=sip:{credentials.user}@{domain}", "reg_expires=600", "reg_sendregister=1"),
            *("[auth_info_0]", f"username={credentials.user}", f"passwd={credentials.password}", f"realm={domain}"),
            *("[rtp]", f"audio_rtp_port={rtp_ports[0]}-{rtp_ports[1]}"),
            *("[net]", "firewall_policy=none"),
            "",
        )
    )
