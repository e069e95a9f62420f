"""A headless baresip phone: plays a tone from a WAV file, writes what it hears to another, obeys over TCP.

Debian's baresip 1.0 has no player that writes a file, so the `sndfile` filter writes what was decoded, and
the player is an `aubridge` to nobody. Control is its module ctrl_tcp: netstrings of JSON.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support import tone
from support.ports import free_block, free_port, give_back_block
from support.waiting import until
from support.wire import Credentials

_MODULES = ("g711.so", "opus.so", "aufile.so", "sndfile.so", "aubridge.so", "account.so", "menu.so", "ctrl_tcp.so")
_CODECS_AND_DEVICES = 5
_MODULE_PATHS = ("/usr/lib/baresip/modules", "/usr/lib/x86_64-linux-gnu/baresip/modules")
_RTP_PORTS = 16
_NETSTRING = re.compile(rb"^(\d+):")


@dataclass(frozen=True, slots=True)
class Line:
    """Where the phone registers and what it plays."""

    server: tuple[str, int]
    credentials: Credentials
    domain: str
    tone_hz: float
    tone_s: float = 30.0
    register: bool = True
    answer: bool = False
    """Answers by itself after a moment."""
    transport: str = ""
    """"tcp" or "tls"; empty: UDP. Debian's baresip 1.0 has no WebSocket."""
    trust: Path | None = None
    """PEM: whose certificate the server must show; None: anybody's."""
    port: int = 0
    """Its own SIP port; 0: any."""
    codec: str = "PCMU"
    """As baresip spells it: "PCMU", "PCMA", "opus/48000/2"."""


class Baresip:
    """One process in a scratch directory; use it as a context manager."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self._scratch = tempfile.TemporaryDirectory(prefix="baresip-")
        self.directory = Path(self._scratch.name)
        self.port, self._control_port = line.port or free_port(), free_port()
        self.events: list[dict[str, Any]] = []
        self._buffer = b""
        self._rtp_ports = free_block(_RTP_PORTS)
        self._write_files()
        self._log = (self.directory / "log").open("wb")
        self.process = subprocess.Popen(
            ["baresip", "-f", str(self.directory)],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            cwd=self.directory,
        )
        try:
            self._control = self._connect()
        except BaseException:
            self.process.kill()
            self.process.wait()
            self._log.close()
            self._scratch.cleanup()
            raise

    def __enter__(self) -> Baresip:
        return self

    def __exit__(self, *_: object) -> None:
        self.quit()
        self._scratch.cleanup()
        give_back_block(self._rtp_ports)

    @property
    def address(self) -> str:
        """Its SIP URI without a server in between."""
        return f"sip:{self.line.credentials.user}@127.0.0.1:{self.port}"

    @property
    def heard(self) -> tone.Sound:
        """What it heard in its first call; complete after `quit`."""
        return tone.read(min(self.directory.glob("dump-*-dec.wav")))

    def command(self, name: str, parameters: str = "") -> None:
        """Give a command of baresip's menu: dial, accept, hangup, hold, resume, sndcode, quit."""
        text = json.dumps({"command": name, "params": parameters, "token": name}).encode()
        self._control.sendall(b"%d:%s," % (len(text), text))

    def wait_for(self, event: str, timeout_s: float = 15) -> dict[str, Any]:
        """The next event of that type; earlier ones of other types are dropped."""

        def find() -> dict[str, Any] | None:
            self._read()
            for index, found in enumerate(self.events):
                if found.get("type") == event:
                    del self.events[: index + 1]
                    return found
            return None

        try:
            found = until(find, timeout_s=timeout_s, what=f"baresip event {event}")
        except AssertionError as error:
            raise AssertionError(f"{error}; pending {self.events}\n{self.log()}") from None
        assert found is not None
        return found

    def log(self) -> str:
        """The end of its log."""
        self._log.flush()
        return (self.directory / "log").read_text(errors="replace")[-4000:]

    def quit(self) -> None:
        """End it; the WAV file is complete afterwards."""
        if self.process.poll() is None:
            with contextlib.suppress(OSError):
                self.command("quit")
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._control.close()
        self._log.close()

    def _write_files(self) -> None:
        line, (first, last) = self.line, self._rtp_ports
        _, _, rate = line.codec.partition("/")
        rate_hz, channels = (int(each) for each in (rate or "8000/1").split("/"))
        tone.write_tone(self.directory / "tone.wav", line.tone_hz, line.tone_s, rate_hz, channels)
        user, (host, port) = line.credentials.user, line.server
        options = [
            f"auth_user={user}",
            f"auth_pass={line.credentials.password}",
            f'outbound="sip:{host}:{port}{f";transport={line.transport}" * bool(line.transport)}"',
        ]
        options += [f"regint={60 if line.register else 0}", f"audio_codecs={line.codec}", "ptime=20"]
        options += ["answermode=auto"] if line.answer else []
        (self.directory / "accounts").write_text(f"<sip:{user}@{line.domain}>;{';'.join(options)}\n", encoding="utf-8")
        (self.directory / "contacts").write_text("", encoding="utf-8")
        modules = next(path for path in _MODULE_PATHS if Path(path).is_dir())
        settings = [
            "poll_method epoll",
            f"sip_listen 127.0.0.1:{self.port}",
            f"audio_source aufile,{self.directory}/tone.wav",
            "audio_player aubridge,nobody",
            f"snd_path {self.directory}",
            "audio_alert aufile,/dev/null",
            f"audio_srate {rate_hz}",
            f"audio_channels {channels}",
            "call_max_calls 4",
            f"rtp_ports {first}-{last}",
            "rtp_timeout 60",
            "jitter_buffer_delay 1-5",
            "net_interface 127.0.0.1",
            f"ctrl_tcp_listen 127.0.0.1:{self._control_port}",
            f"module_path {modules}",
            *((f"sip_cafile {line.trust}",) if line.trust is not None else ()),
            *(f"module {name}" for name in _MODULES[:_CODECS_AND_DEVICES]),
            *(f"module_app {name}" for name in _MODULES[_CODECS_AND_DEVICES:]),
        ]
        (self.directory / "config").write_text("\n".join(settings) + "\n", encoding="utf-8")

    def _connect(self) -> socket.socket:
        deadline = time.monotonic() + 10
        while True:
            try:
                control = socket.create_connection(("127.0.0.1", self._control_port), 1)
            except OSError:
                assert self.process.poll() is None, f"baresip ended: {self.log()}"
                assert time.monotonic() < deadline, f"no control port: {self.log()}"
                time.sleep(0.05)
            else:
                control.setblocking(False)
                return control

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while chunk := self._control.recv(65536):
                self._buffer += chunk
        while (found := _NETSTRING.match(self._buffer)) is not None:
            start, size = found.end(), int(found[1])
            if len(self._buffer) < start + size + 1:
                return
            message = json.loads(self._buffer[start : start + size])
            self._buffer = self._buffer[start + size + 1 :]
            if message.get("event"):
                self.events.append(message)
