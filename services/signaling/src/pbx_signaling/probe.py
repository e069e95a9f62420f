"""Readiness of signaling: an OPTIONS over UDP that has to be answered, and /readyz (red while draining).

`python -m pbx_signaling.probe [HOST:PORT [HTTP_HOST:PORT]]`, exit code 0 or 1 with a reason. Without arguments both are
read from what the process itself reads, PBX_SIP_LISTEN and PBX_HTTP_LISTEN: an exec probe runs with the container's
environment, but the kubelet expands no variable in its command that has a `valueFrom`. Standard library alone: a probe
runs every few seconds and must cost next to nothing.
"""

from __future__ import annotations

import http.client
import os
import socket
import sys
from collections.abc import Mapping

TIMEOUT_S = 1.5
"""Of each part; both fit into the probe's own timeout."""
_LARGEST = 65_535


def options(host: str, port: int, token: str, timeout_s: float = TIMEOUT_S) -> str:
    """Send an OPTIONS and wait for any final answer. Returns why there was none; empty: answered."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(timeout_s)
        sock.connect((host, port))
        local = "[{}]:{}".format(*sock.getsockname()[:2]) if ":" in host else "{}:{}".format(*sock.getsockname()[:2])
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        request = (
            f"OPTIONS sip:{target} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP {local};rport;branch=z9hG4bKprobe{token}\r\n"
            f"Max-Forwards: 1\r\nFrom: <sip:probe@{local}>;tag={token}\r\nTo: <sip:{target}>\r\n"
            f"Call-ID: probe-{token}@{local}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
        )
        try:
            sock.send(request.encode())
            answer = sock.recv(_LARGEST)
        except OSError as error:
            return f"no answer to OPTIONS from {target}: {error}"
    if answer.startswith(b"SIP/2.0 ") and token.encode() in answer:
        return ""
    return f"{target} answered something else: {answer[:60]!r}"


def readyz(host: str, port: int) -> str:
    """Ask /readyz. Returns why it is not green; empty: it is."""
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        body = response.read(2000).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        return f"/readyz: {error}"
    finally:
        connection.close()
    return "" if response.status == 200 else f"/readyz says {response.status}: {body}"


def _split(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def reachable(listen: str) -> str:
    """Where this machine reaches what a setting lets listen: loopback in place of every address."""
    host, port = _split(listen)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 -- compared, not bound
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def of_environment(environment: Mapping[str, str]) -> list[str]:
    """The arguments that a process with these settings is probed with. Raises ValueError where they are missing."""
    sip = environment.get("PBX_SIP_LISTEN", "0.0.0.0:5060").split(",")[0].strip()
    http = environment.get("PBX_HTTP_LISTEN", "127.0.0.1:9112")
    return [reachable(sip), reachable(http)]


def main(arguments: list[str]) -> int:
    """Probe; the exit code says how it went, stderr why."""
    try:
        arguments = arguments or of_environment(os.environ)
        problems = [options(*_split(arguments[0]), os.urandom(8).hex())]
    except ValueError as error:
        sys.stderr.write(f"not HOST:PORT: {error}\n")
        return 1
    if len(arguments) > 1:
        problems.append(readyz(*_split(arguments[1])))
    for problem in filter(None, problems):
        sys.stderr.write(problem + "\n")
    return int(any(problems))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
