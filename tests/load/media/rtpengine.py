"""rtpengine in user space as the peer: started in the relay's namespace, its calls set up over its NG protocol.

NG is bencoded dictionaries in UDP datagrams behind a cookie; only what an offer and an answer need is here.
"""

from __future__ import annotations

import re
import socket
import time
from pathlib import Path

from load.media.topology import CALLEE, CALLER, End, phone_port

NG_PORT = 2223
Value = int | str | bytes | list["Value"] | dict[str, "Value"]


def command_line() -> list[str]:
    """rtpengine without its kernel module, one relaying thread, no time-outs that end a measured call."""
    return [
        "rtpengine", f"--interface=a/{CALLER.relay_host}", f"--interface=b/{CALLEE.relay_host}",
        f"--listen-ng=127.0.0.1:{NG_PORT}", "--port-min=30000", "--port-max=39999", "--table=-1", "--num-threads=1",
        "--foreground", "--log-stderr", "--log-level=3", "--endpoint-learning=immediate", "--timeout=3600",
        "--silent-timeout=3600",
    ]  # fmt: skip


def bencode(value: Value) -> bytes:
    """BitTorrent's encoding."""
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return b"%d:%b" % (len(value), value)
    if isinstance(value, list):
        return b"l" + b"".join(map(bencode, value)) + b"e"
    return b"d" + b"".join(bencode(key) + bencode(value[key]) for key in sorted(value)) + b"e"


def media_port(reply: bytes) -> int:
    """The audio port in the SDP of a reply. Raises RuntimeError where it holds none."""
    found = re.search(rb"m=audio (\d+)", reply)
    if found is None:
        raise RuntimeError(f"rtpengine refused: {reply[:200]!r}")
    return int(found[1])


class Ng:
    """A client in the relay's namespace; the caller has entered it."""

    def __init__(self) -> None:
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.settimeout(1)
        self._sock.connect(("127.0.0.1", NG_PORT))
        self._count = 0

    def __call__(self, command: str, **fields: Value) -> bytes:
        """Ask, and answer the raw reply."""
        self._count += 1
        request = {"command": command, **{name.replace("_", "-"): value for name, value in fields.items()}}
        self._sock.send(b"%d " % self._count + bencode(request))
        while True:
            cookie, _, body = self._sock.recv(65536).partition(b" ")
            if cookie == b"%d" % self._count:
                return body

    def wait(self) -> None:
        """Until it answers, 10 s at most."""
        deadline = time.monotonic() + 10
        while True:
            try:
                self("ping")
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return

    def call(self, number: int) -> tuple[int, int]:
        """Set one call up; its ports towards caller and callee."""
        common: dict[str, Value] = {
            "call_id": f"call{number}",
            "from_tag": f"f{number}",
            "ICE": "remove",
            "replace": ["origin", "session-connection"],
            "flags": ["trust-address"],
        }
        offered = self("offer", sdp=_sdp(CALLER, number), direction=["a", "b"], **common)
        answered = self("answer", sdp=_sdp(CALLEE, number), to_tag=f"t{number}", direction=["b", "a"], **common)
        return media_port(answered), media_port(offered)

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()


def _sdp(end: End, number: int) -> str:
    return (
        f"v=0\r\no=- 1 1 IN IP4 {end.host}\r\ns=-\r\nc=IN IP4 {end.host}\r\nt=0 0\r\n"
        f"m=audio {phone_port(number)} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=sendrecv\r\n"
    )


def version() -> str:
    """Of the Debian package; empty where it is not installed."""
    for line in Path("/var/lib/dpkg/status").read_text(encoding="utf-8").split("\n\n"):
        if line.startswith("Package: rtpengine-daemon\n") and (found := re.search(r"^Version: (.*)$", line, re.M)):
            return found[1]
    return ""
