"""What the relay is told by its environment; see ARCHITECTURE.md for the table."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from pbx_media_relay.endpoint import canonical_host
from pbx_media_relay.ports import Shard
from pbx_media_relay.recording.room import Bounds
from pbx_media_relay.session import Rules
from pbx_runtime.address import UnixSocket
from pbx_runtime.settings import CommaList, Listen, Place, ServiceSettings

WILDCARDS: Final = {"0.0.0.0": 4, "::": 6}  # noqa: S104 -- named, and bound only where the settings say so


def _shard(value: object) -> object:
    return Shard.parse(value) if isinstance(value, str) else value


class RelaySettings(ServiceSettings):
    """Frozen; made once at start."""

    service: ClassVar[str] = "media-relay"
    may_wait: ClassVar[bool] = False

    grpc_listen: Place = Listen("127.0.0.1", 9103)
    """Where the gRPC server listens."""
    http_listen: Listen = Listen("127.0.0.1", 9113)
    """Where metrics and health are served."""
    relay_id: str = Field(default="", pattern=r"^[A-Za-z0-9._-]{0,63}$")
    """Names this relay in leases and CDRs; empty: "relay-" and the instance id."""
    relay_ports: Annotated[Shard, BeforeValidator(_shard)] = Shard(30000, 39999)
    """First and last port of the shard; whole slots of 8 ports inside are used."""
    relay_shard_file: Path | None = None
    """File that holds FIRST-LAST; read again when it changes, and above `relay_ports` where it exists."""
    relay_bind: CommaList = ("0.0.0.0",)  # noqa: S104 -- media come from anywhere
    """Local addresses of the RTP sockets, at most one per family."""
    relay_advertise: CommaList = ()
    """Addresses announced to phones, at most one per family; empty: the bound ones, unless they are
    wildcards."""
    relay_grpc_advertise: str = ""
    """host:port under which signaling reaches this relay; empty: where it listens."""
    relay_node: str = ""
    """Node on which it runs; empty outside a cluster."""
    relay_media_timeout_s: int = Field(default=60, ge=0, le=86400)
    """Silence in both directions that is reported for calls that name none; 0: never."""
    relay_probe_s: int = Field(default=0, ge=0, le=3600)
    """Seconds between two looks at its own echo, which readiness depends on; 0: none. Each takes a slot a moment."""
    relay_recordings: Path | None = None
    """Directory of recordings; default: `recordings` in the data directory."""
    relay_recordings_max_mib: int = Field(default=0, ge=0)
    """What all files there may hold together, in MiB; recordings end there, and none begins. 0: as much as the disk."""
    relay_recordings_free_percent: int = Field(default=5, ge=0, le=90)
    """Part of that disk that recordings leave free, in percent."""
    datapath: Literal["auto", "ebpf", "native", "python", "null"] = "auto"
    """Which datapath moves the packets."""
    relay_cores: CommaList = ()
    """Cores on which the native datapath runs a thread each; empty: all that the process may use."""

    relay_asymmetric: CommaList = ()
    """Networks of gateways that send RTP from other ports than they receive on: what goes to them goes where they
    announced."""
    relay_latch_any: bool = False
    """Whether a phone that announces a private address may be latched at any host, not at its signaling's alone."""
    relay_pins: Path = Path("/sys/fs/bpf/sip-pbx")
    """Directory on a bpf file system where the ebpf datapath keeps what is to outlive the process."""

    @model_validator(mode="after")
    def _addresses_fit(self) -> Self:
        """A family that is announced must be bound, and an announced address must be a real one."""
        if not all(core.isdecimal() for core in self.relay_cores):
            raise ValueError("PBX_RELAY_CORES is a list of core numbers")
        self.rules()
        bound = {ipaddress.ip_address(host).version for host in self.relay_bind}
        if len(bound) != len(self.relay_bind) or not bound:
            raise ValueError("PBX_RELAY_BIND needs one address, or one of each family")
        if not self.hosts:
            raise ValueError(
                "PBX_RELAY_ADVERTISE is needed where PBX_RELAY_BIND is a wildcard: "
                "the address that phones send media to is never guessed"
            )
        announced = [ipaddress.ip_address(canonical_host(host)).version for host in self.hosts]
        if len(set(announced)) != len(announced) or not set(announced) <= bound:
            raise ValueError("PBX_RELAY_ADVERTISE may name one address of each family in PBX_RELAY_BIND")
        return self

    def rules(self) -> Rules:
        """What the settings say of all calls. Raises ValueError."""
        bound = [host for host in self.relay_bind if host not in WILDCARDS]
        try:
            return Rules.of([*map(canonical_host, bound), *self.hosts], self.relay_asymmetric, self.relay_latch_any)
        except ValueError as error:
            raise ValueError(f"PBX_RELAY_ASYMMETRIC: {error}") from None

    @property
    def cores(self) -> tuple[int, ...]:
        """The cores as numbers."""
        return tuple(int(core) for core in self.relay_cores)

    @property
    def hosts(self) -> tuple[str, ...]:
        """The addresses to announce; empty where nothing but wildcards is known (never guessed)."""
        if self.relay_advertise:
            return tuple(canonical_host(host) for host in self.relay_advertise)
        return tuple(canonical_host(host) for host in self.relay_bind if host not in WILDCARDS)

    def grpc_address(self, listen: Listen | UnixSocket) -> str:
        """What to announce for a server that listens there; a wildcard is reached by the media's own
        address."""
        if self.relay_grpc_advertise:
            return self.relay_grpc_advertise
        if isinstance(listen, UnixSocket) or not listen.is_wildcard:
            return str(listen)
        return str(Listen(self.hosts[0], listen.port))

    @property
    def recordings(self) -> Path:
        """Where recordings are written; absolute, since others read them."""
        return (self.relay_recordings or self.data / "recordings").absolute()

    @property
    def recording_bounds(self) -> Bounds:
        """How much recordings may write."""
        return Bounds(self.relay_recordings_max_mib << 20, self.relay_recordings_free_percent / 100)

    @property
    def name(self) -> str:
        """The relay's id."""
        return self.relay_id or f"relay-{self.instance_id}"
