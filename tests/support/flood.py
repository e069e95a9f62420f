"""Sends SIP requests at a rate from one address until it is stopped: `python -m support.flood METHOD HOST PORT`."""

from __future__ import annotations

import contextlib
import socket
import sys
import time

FLOODER = "127.0.0.66"
RATE_PER_S = 3000


def send(method: str, server: tuple[str, int]) -> None:
    """Never returns."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((FLOODER, 0))
        port, number, began = sock.getsockname()[1], 0, time.monotonic()
        while True:
            number += 1
            text = (
                f"{method} sip:1008@pbx.local SIP/2.0\r\nVia: SIP/2.0/UDP {FLOODER}:{port};branch=z9hG4bKf{number}\r\n"
                f"Max-Forwards: 70\r\nFrom: <sip:1004@pbx.local>;tag=x{number}\r\nTo: <sip:1008@pbx.local>\r\n"
                f"Call-ID: flood-{number}\r\nCSeq: 1 {method}\r\nContact: <sip:x@{FLOODER}:{port}>\r\n"
                "Content-Length: 0\r\n\r\n"
            )
            with contextlib.suppress(OSError):
                sock.sendto(text.encode(), server)
            ahead = number / RATE_PER_S - (time.monotonic() - began)
            if ahead > 0:
                time.sleep(ahead)


if __name__ == "__main__":
    send(sys.argv[1], (sys.argv[2], int(sys.argv[3])))
