"""`sip-pbx doctor`: look at the usual reasons for calls that do not come about, and name the broken hop.

It changes nothing, needs no privilege, and asks only what it was pointed at. What it cannot know it says so.
"""

from __future__ import annotations

import enum
import ipaddress
import json as json_module
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from pbx_cli.errors import CliError
from pbx_cli.verbs.places import Places
from pbx_runtime.text import printable

PROC = Path("/proc/sys/net")
TIMEOUT_S = 2.0
RECEIVE_BUFFER_MIN = 1_048_576
"""Bursts of a thousand calls fill the default of 208 KiB within a scheduling hiccup."""
CONNTRACK_FULL = 0.8
MIB = 1 << 20
DISK_FREE_MIN = 64 * MIB
"""Less than this is gone within minutes of calls."""
DISK_LOW = 0.1
NODE_PORTS = range(30000, 32768)
"""The API server's default range of NodePorts."""


class Verdict(enum.StrEnum):
    """How a check went."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found, and what mends it."""

    hop: str
    verdict: Verdict
    detail: str
    remedy: str = ""


def split(text: str, default_port: int) -> tuple[str, int]:
    """Host and port of "host", "host:port", "[ipv6]:port". Raises typer.BadParameter."""
    host, colon, port = text.rpartition(":")
    if not colon or (":" in host and not host.startswith("[")):
        host, port = text, str(default_port)
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise typer.BadParameter(f"{text!r} is not host:port")
    return host.strip("[]"), int(port)


def check_name(host: str) -> Finding:
    """Whether the name resolves."""
    try:
        found = sorted({str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)})
    except OSError as error:
        return Finding("name", Verdict.FAIL, f"{host}: {error}", "mend DNS, or use the address")
    return Finding("name", Verdict.OK, f"{host} is {', '.join(found)}")


def options_request(host: str, port: int, local: tuple[str, int], transport: str, token: str) -> bytes:
    """An OPTIONS that any SIP server answers."""
    here = f"[{local[0]}]:{local[1]}" if ":" in local[0] else f"{local[0]}:{local[1]}"
    there = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = (
        f"OPTIONS sip:{there} SIP/2.0",
        f"Via: SIP/2.0/{transport} {here};rport;branch=z9hG4bK{token}",
        "Max-Forwards: 70",
        f"From: <sip:doctor@{here}>;tag={token}",
        f"To: <sip:{there}>",
        f"Call-ID: {token}@doctor",
        "CSeq: 1 OPTIONS",
        "Content-Length: 0",
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def check_sip(host: str, port: int, transport: str, timeout_s: float = TIMEOUT_S) -> Finding:
    """Whether SIP is answered, and from which address our request was seen to come."""
    hop = f"SIP over {transport}"
    kind = socket.SOCK_DGRAM if transport == "UDP" else socket.SOCK_STREAM
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=kind)[0]
        with socket.socket(family, kind) as sock:
            sock.settimeout(timeout_s)
            sock.connect(address)
            local = sock.getsockname()[:2]
            sock.sendall(options_request(host, port, local, transport, os.urandom(8).hex()))
            answer = sock.recv(65535).decode("utf-8", "replace")
    except ConnectionRefusedError:
        return Finding(hop, Verdict.FAIL, f"{host}:{port} refuses: nothing listens there", "is signaling ready?")
    except TimeoutError:
        return Finding(
            hop,
            Verdict.FAIL,
            f"no answer from {host}:{port} in {timeout_s:g} s",
            "a firewall, a load balancer without endpoints, or the wrong address: try from a node, then from the pod",
        )
    except OSError as error:
        return Finding(hop, Verdict.FAIL, f"{host}:{port}: {error}", "no route to that address")
    if not answer.startswith("SIP/2.0 "):
        return Finding(hop, Verdict.FAIL, f"{host}:{port} does not speak SIP: {answer[:40]!r}", "wrong port?")
    return Finding(hop, Verdict.OK, f"{answer.splitlines()[0]}; {seen_as(answer, local)}")


def seen_as(answer: str, local: tuple[str, int]) -> str:
    """What the Via says of our address: whether there is a NAT between."""
    via = next((line for line in answer.splitlines() if line.lower().startswith(("via:", "v:"))), "")
    parameters = dict(part.split("=", 1) for part in via.split(";")[1:] if "=" in part)
    host, port = parameters.get("received", local[0]).strip(), parameters.get("rport", str(local[1])).strip()
    if (host, port) == (local[0], str(local[1])):
        return f"no NAT on the way (seen as {host}:{port})"
    return f"behind a NAT: {local[0]}:{local[1]} is seen as {host}:{port}"


def check_advertise(text: str) -> Finding:
    """Whether an address is one that phones can use."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        named = check_name(text)
        return Finding("advertised address", named.verdict, named.detail, named.remedy)
    if address.is_unspecified or address.is_loopback or address.is_link_local:
        return Finding(
            "advertised address", Verdict.FAIL, f"{text} reaches nobody else", "advertise the node's address"
        )
    if address.is_private:
        return Finding(
            "advertised address",
            Verdict.WARN,
            f"{text} is private: phones elsewhere hear nothing",
            "right within one network; otherwise annotate the node: pbx.io/advertise=PUBLIC-ADDRESS",
        )
    return Finding("advertised address", Verdict.OK, text)


def check_ports(first: int, last: int, bind: str = "") -> Finding:
    """Whether another process holds ports of the range (a running relay counts as one)."""
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    held = [port for port in range(first, last + 1) if not _can_bind(family, bind, port)]
    if not held:
        return Finding("media ports", Verdict.OK, f"{first}-{last} are free here")
    shown = ", ".join(map(str, held[:5])) + (f" and {len(held) - 5} more" if len(held) > 5 else "")
    return Finding("media ports", Verdict.WARN, f"held: {shown}", "by a relay? then all is well; see `ss -ulpn`")


def _can_bind(family: socket.AddressFamily, bind: str, port: int) -> bool:
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((bind, port))
        except OSError:
            return False
    return True


def parse_ranges(text: str) -> list[range]:
    """Ranges of ports as sysctl writes them: "9300-9427,30000-39999"."""
    ranges = []
    for part in filter(None, text.replace("\t", "-").strip().split(",")):
        first, _, last = part.partition("-")
        ranges.append(range(int(first), int(last or first) + 1))
    return ranges


def check_ephemeral(first: int, last: int, proc: Path = PROC) -> Finding:
    """Whether the kernel may give a media port to an outgoing connection."""
    hop = "ephemeral ports"
    try:
        used = parse_ranges((proc / "ipv4/ip_local_port_range").read_text(encoding="ascii"))
        reserved = parse_ranges((proc / "ipv4/ip_local_reserved_ports").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return Finding(hop, Verdict.SKIP, "cannot be read here")
    open_ports = [p for p in range(first, last + 1) if any(p in r for r in used) and not any(p in r for r in reserved)]
    if not open_ports:
        return Finding(hop, Verdict.OK, f"{first}-{last} are out of reach of outgoing connections")
    return Finding(
        hop,
        Verdict.WARN,
        f"{len(open_ports)} media ports may be taken by outgoing connections",
        f"sysctl net.ipv4.ip_local_reserved_ports={first}-{last}",
    )


def check_node_ports(first: int, last: int) -> Finding:
    """Whether the range overlaps with NodePorts."""
    if first in NODE_PORTS or last in NODE_PORTS:
        return Finding(
            "NodePorts",
            Verdict.WARN,
            f"{first}-{last} overlaps with 30000-32767",
            "harmless without NodePort Services; otherwise begin at 32768",
        )
    return Finding("NodePorts", Verdict.OK, "no overlap")


def check_conntrack(proc: Path = PROC) -> Finding:
    """Whether connection tracking is about to drop packets."""
    try:
        count = int((proc / "netfilter/nf_conntrack_count").read_text(encoding="ascii"))
        most = int((proc / "netfilter/nf_conntrack_max").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return Finding("conntrack", Verdict.SKIP, "not in use here, or not to be seen")
    detail = f"{count} of {most} entries"
    if count > most * CONNTRACK_FULL:
        return Finding("conntrack", Verdict.FAIL, detail, "notrack the media ports (docs/networking.md)")
    return Finding("conntrack", Verdict.OK, detail)


def check_buffers(proc: Path = PROC) -> Finding:
    """Whether sockets may hold a burst."""
    try:
        most = int((proc / "core/rmem_max").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return Finding("socket buffers", Verdict.SKIP, "cannot be read here")
    if most < RECEIVE_BUFFER_MIN:
        remedy = f"sysctl net.core.rmem_max={RECEIVE_BUFFER_MIN}"
        return Finding("socket buffers", Verdict.WARN, f"net.core.rmem_max is {most}", remedy)
    return Finding("socket buffers", Verdict.OK, f"net.core.rmem_max is {most}")


def check_tcp(hop: str, host: str, port: int) -> Finding:
    """Whether a TCP port is reached."""
    try:
        with socket.create_connection((host, port), TIMEOUT_S):
            return Finding(hop, Verdict.OK, f"{host}:{port} is reached")
    except OSError as error:
        return Finding(hop, Verdict.FAIL, f"{host}:{port}: {error}", "firewall between nodes, or it does not run")


def check_unix(hop: str, address: str) -> Finding:
    """Whether a unix socket is reached."""
    path = address.removeprefix("unix:").removeprefix("//")
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(TIMEOUT_S)
            sock.connect(path)
    except PermissionError:
        return Finding(hop, Verdict.FAIL, f"{path} is another user's", "ask as the user that runs sip-pbx")
    except OSError as error:
        return Finding(hop, Verdict.FAIL, f"{path}: {error}", "is `sip-pbx up` running?")
    return Finding(hop, Verdict.OK, f"{path} is reached")


def check_disk(path: Path) -> Finding:
    """Whether there is room for what is kept."""
    try:
        usage = shutil.disk_usage(path)
    except OSError as error:
        return Finding("disk", Verdict.FAIL, f"{path}: {error.strerror}", "name the data directory with --data")
    detail = f"{usage.free // MIB} MiB of {usage.total // MIB} free at {path}"
    if usage.free < DISK_FREE_MIN:
        return Finding("disk", Verdict.FAIL, detail, "free some: events and CDRs are not written to a full disk")
    if usage.free < usage.total * DISK_LOW:
        return Finding("disk", Verdict.WARN, detail, "it fills: see PBX_EVENT_DAYS, PBX_CDR_DAYS and recordings")
    return Finding("disk", Verdict.OK, detail)


def check_process(process: dict[str, Any]) -> Finding:
    """Whether a process of `up` is ready, by its own checks."""
    from pbx_cli.verbs.status import state_of

    state = state_of(process)
    if state.ready == "yes":
        return Finding(state.name, Verdict.OK, "ready")
    remedy = "its log says more" if state.ready == "no" else "it was ended, or hangs: see the log of `sip-pbx up`"
    return Finding(state.name, Verdict.FAIL, state.detail or "not ready", remedy)


def run(checks: list[Callable[[], Finding]]) -> Iterator[Finding]:
    """One after the other."""
    for check in checks:
        yield check()


def doctor(
    sip: Annotated[
        str,
        typer.Option(help="host:port of signaling, as phones are told; default: that of --data, or 127.0.0.1:5060."),
    ] = "",
    data: Annotated[
        Path | None, typer.Option("--data", help="Data directory of a local `sip-pbx up`: look at its processes too.")
    ] = None,
    advertise: Annotated[str, typer.Option(help="The address told to phones, to be judged.")] = "",
    relay: Annotated[
        list[str] | None, typer.Option(help="host:port or unix:PATH of a relay's gRPC; may be repeated.")
    ] = None,
    relay_ports: Annotated[str, typer.Option(help="Media ports of this machine.")] = "30000-39999",
    tcp: Annotated[bool, typer.Option(help="Ask over TCP too.")] = True,
    node: Annotated[bool, typer.Option(help="Look at this machine's kernel and ports too.")] = True,
    json: Annotated[bool, typer.Option("--json", help="JSON instead of lines.")] = False,
) -> None:
    """Check addressing, reachability and ports, and name the broken hop. Exit code 1 where something fails."""
    document = _running(data) if data is not None else {}
    host, port = split(sip or _sip_of(document) or "127.0.0.1:5060", 5060)
    first, last = _ports(relay_ports)
    checks: list[Callable[[], Finding]] = []
    if data is not None:
        checks.append(partial(check_disk, data))
        checks += [partial(check_process, process) for process in document.get("processes", ())]
    checks += [lambda: check_name(host), lambda: check_sip(host, port, "UDP")]
    if tcp:
        checks.append(lambda: check_sip(host, port, "TCP"))
    if advertise:
        checks.append(lambda: check_advertise(advertise))
    for address in relay or ():
        if address.startswith("unix:"):
            checks.append(lambda path=address: check_unix("relay control", path))  # type: ignore[misc]
            continue
        place = split(address, 9103)
        checks.append(lambda place=place: check_tcp("relay control", *place))  # type: ignore[misc]
    if node:
        checks += [lambda: check_ports(first, last), lambda: check_ephemeral(first, last)]
        checks += [lambda: check_node_ports(first, last), check_conntrack, check_buffers]
    findings = list(run(checks))
    _show(findings, json)
    raise typer.Exit(int(any(finding.verdict is Verdict.FAIL for finding in findings)))


def _running(data: Path) -> dict[str, Any]:
    document = Places("", data).document
    if not document:
        raise CliError(f"{data} has no endpoints.json: is `sip-pbx up` running with --data {data}?")
    return document


def _sip_of(document: dict[str, Any]) -> str:
    """Where SIP is served; from here a wildcard is reached by loopback."""
    text = str(next(iter(document.get("sip", ())), ""))
    return text.replace("0.0.0.0:", "127.0.0.1:", 1).replace("[::]:", "[::1]:", 1)


def _ports(text: str) -> tuple[int, int]:
    try:
        (found,) = parse_ranges(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not FIRST-LAST") from None
    return found.start, found.stop - 1


def _show(findings: list[Finding], as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json_module.dumps([asdict(finding) for finding in findings], indent=2) + "\n")
        return
    for finding in findings:
        remedy = f"\n      {finding.remedy}" if finding.remedy else ""
        sys.stdout.write(f"{finding.verdict:<5} {finding.hop}: {printable(finding.detail)}{remedy}\n")
    broken = next((finding for finding in findings if finding.verdict is Verdict.FAIL), None)
    sys.stdout.write(f"broken hop: {broken.hop}\n" if broken else "nothing is broken from here\n")
