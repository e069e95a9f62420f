"""Where the shard comes from while the process runs: a file that may change, and the host's ephemeral range.

The operator writes the file; calls on ports of the former shard go on. The kernel hands ephemeral ports to
any process that asks, so a shard that overlaps them without being reserved loses slots to strangers: said
once.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from pbx_media_relay.forward import PORTS_PER_SLOT
from pbx_media_relay.ports import Shard
from pbx_runtime import logs

PORT_RANGE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
RESERVED: Final = Path("/proc/sys/net/ipv4/ip_local_reserved_ports")
FILE_BYTES_MAX: Final = 64
"""FIRST-LAST and a line end; anything longer is another file."""
OTHER_DESCRIPTORS: Final = 256
"""Of a relay process beside the sockets of its slots: gRPC streams, HTTP, Redis, BPF."""
_log = logs.get_logger("shard")


class ShardFile:
    """A file with FIRST-LAST, looked at now and then."""

    def __init__(self, path: Path, changed: Callable[[Shard], None]) -> None:
        self._path = path
        self._changed = changed
        self._text = ""

    def __repr__(self) -> str:
        return f"<ShardFile {self._path} {self._text!r}>"

    def look(self) -> None:
        """Tell of a new shard. A file that is away or makes no sense changes nothing, and is logged once."""
        try:
            with self._path.open(encoding="ascii") as file:
                text = file.read(FILE_BYTES_MAX).strip()
        except (OSError, UnicodeDecodeError) as error:
            text = f"unreadable: {error}"
        if text == self._text:
            return
        self._text = text
        try:
            shard = Shard.parse(text)
        except ValueError as error:
            _log.error("shard file ignored", path=str(self._path), error=str(error))
            return
        _log.info("shard", ports=str(shard))
        self._changed(shard)


def ephemeral_ports(shard: Shard, port_range: str, reserved: str) -> int:
    """How many ports of the shard the kernel may hand to others.

    Takes the texts of ip_local_port_range ("32768 60999") and ip_local_reserved_ports ("30000-39999,5060").
    """
    first, last = map(int, port_range.split())
    at_risk = set(range(max(first, shard.first), min(last, shard.last) + 1))
    for part in filter(None, reserved.strip().split(",")):
        low, _, high = part.partition("-")
        at_risk.difference_update(range(int(low), int(high or low) + 1))
    return len(at_risk)


def check_ephemeral(shard: Shard) -> int:
    """Ports of the shard at risk on this host, with a warning that says what to do; 0 where it cannot be
    told."""
    try:
        count = ephemeral_ports(shard, PORT_RANGE.read_text("ascii"), RESERVED.read_text("ascii"))
    except (OSError, ValueError):
        return 0
    if count:
        _log.warning(
            "the kernel may give ports of the shard to other processes",
            ports=count,
            remedy=f"sysctl -w net.ipv4.ip_local_reserved_ports={shard}",
        )
    return count


def check_descriptors(shard: Shard, hosts: int, limit: int) -> int:
    """Slots of the shard that the process can have sockets for, with a warning where they are clearly fewer.

    `hosts` is the number of local addresses, `limit` how many descriptors the process may have. Calls beyond are
    refused, long before the shard looks full.
    """
    slots = len(shard.slots())
    each = PORTS_PER_SLOT * hosts
    usable = max(0, min(slots, (limit - OTHER_DESCRIPTORS) // each))
    if usable < slots * 9 // 10:
        _log.warning(
            "too few descriptors for the shard",
            slots=slots,
            usable=usable,
            remedy=f"ulimit -Hn {slots * each + OTHER_DESCRIPTORS}",
        )
    return usable
