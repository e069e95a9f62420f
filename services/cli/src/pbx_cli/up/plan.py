"""Which processes to run, with which command line and environment. Pure: options in, values out."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pbx_cli.up.options import UpOptions
from pbx_cli.up.secrets import environment_for
from pbx_runtime.address import Listen, UnixSocket

STOP_S = 5
SIGNALING_STOP_S = 15
"""Signaling ends its calls first: BYE and its answer on every leg."""
_OWN = ("PBX_INSTANCE_ID", "PBX_GRPC_LISTEN", "PBX_HTTP_LISTEN", "PBX_NONCE_KEY", "PBX_GRPC_KEY", "PBX_DATA")
"""Variables that mean one process each: the supervisor's own must not reach all of them."""


@dataclass(frozen=True, slots=True)
class ProcessPlan:
    """One child process."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    addresses: Mapping[str, str]
    """What `--json` tells of it: kind (sip, grpc, http, rtp, redis) to address."""
    ready: str
    """`http://.../readyz`, or the path of a Redis socket."""
    stop_s: float = STOP_S
    """Seconds between SIGTERM and SIGKILL."""
    descriptors: tuple[int, ...] = ()
    """Open files of the supervisor that it inherits under the same numbers."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where each service shows its metrics and health."""

    registrar_http: Listen
    relay_http: Listen
    signaling_http: tuple[Listen, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one of several signaling processes at the same addresses is given."""

    instance: str
    """Its instance id."""
    sockets: str
    """PBX_SIP_SOCKETS."""
    board: int
    """PBX_SIP_BOARD."""
    descriptors: tuple[int, ...]
    """Those that they name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What the plan needs to know beyond the options."""

    advertise: str
    """At most one address per family, comma-separated."""
    ports: Ports
    sockets: Path
    """Directory of the gRPC sockets, which nobody else may search."""
    redis_program: str
    redis_socket: Path
    data: Path
    nonce_key_file: Path
    environment: Mapping[str, str] = field(repr=False)
    """The supervisor's own environment; children inherit it below their own settings."""
    is_terminal: bool = False
    certificate: tuple[Path, Path] | None = None
    """Certificate and key of SIP over TLS."""
    shares: tuple[Share, ...] = ()
    """One for each signaling process where there are several."""

    def grpc(self, name: str) -> UnixSocket:
        """Where the process of this name serves gRPC."""
        return UnixSocket(str(self.sockets / f"{name}.sock"))


@dataclass(frozen=True, slots=True)
class Plan:
    """All processes, in the order of start. They stop in the reverse order, the last stage first."""

    stages: tuple[tuple[ProcessPlan, ...], ...]
    """The processes of a stage start together, once the stage before is ready."""

    @property
    def processes(self) -> tuple[ProcessPlan, ...]:
        """All of them."""
        return tuple(process for stage in self.stages for process in stage)


def make_plan(options: UpOptions, machine: Machine) -> Plan:
    """Redis; then registrar, relay and events; then signaling."""
    return Plan(
        (
            (_redis(machine),),
            (_events(options, machine), _registrar(options, machine), _relay(options, machine)),
            tuple(_signaling(options, machine, index) for index in range(options.replicas)),
        )
    )


def _redis(machine: Machine) -> ProcessPlan:
    directory = machine.data / "redis"
    settings = {
        "port": "0",
        "unixsocket": str(machine.redis_socket),
        "unixsocketperm": "700",
        "dir": str(directory),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "loglevel": "warning",
        "logfile": str(directory / "redis.log"),
    }
    argv = [machine.redis_program]
    for name, value in settings.items():
        argv += [f"--{name}", value]
    url = f"unix://{machine.redis_socket}"
    environment = environment_for("redis", machine.environment)
    return ProcessPlan("redis", tuple(argv), environment, {"redis": url}, str(machine.redis_socket))


def _registrar(options: UpOptions, machine: Machine) -> ProcessPlan:
    own = {"PBX_DOMAIN": options.domain, "PBX_NONCE_KEY_FILE": str(machine.nonce_key_file)}
    return _service("registrar", "pbx_registrar", machine, machine.ports.registrar_http, own)


def _relay(options: UpOptions, machine: Machine) -> ProcessPlan:
    first, last = options.relay_ports
    bind = "127.0.0.1" if options.sip.host == "localhost" else options.sip.host
    ipv6 = options.more.ipv6
    own = {
        "PBX_RELAY_PORTS": f"{first}-{last}",
        "PBX_RELAY_BIND": bind if ipv6 is None else f"{bind},{ipv6.host}",
        "PBX_RELAY_ADVERTISE": machine.advertise,
        "PBX_RELAY_ID": "relay",
    }
    http = machine.ports.relay_http
    return _service("media-relay", "pbx_media_relay", machine, http, own, rtp=f"{bind}:{first}-{last}")


def _events(options: UpOptions, machine: Machine) -> ProcessPlan:
    own = {
        "PBX_REGISTRAR_ADDRESS": str(machine.grpc("registrar")),
        "PBX_DOMAIN": options.domain,
        # Started again it goes on with what it had read and not stored; under a new name that waits for half a minute.
        "PBX_INSTANCE_ID": "events",
        # People try webhooks with a receiver on the same machine; PBX_WEBHOOK_ALLOW_PRIVATE=0 forbids it.
        "PBX_WEBHOOK_ALLOW_PRIVATE": os.environ.get("PBX_WEBHOOK_ALLOW_PRIVATE", "1"),
    }
    return _service("events", "pbx_events", machine, options.http, own)


def _signaling(options: UpOptions, machine: Machine, index: int) -> ProcessPlan:
    more = list(options.more.listens())
    own = {
        "PBX_SIP_LISTEN": ",".join(map(str, (options.sip, *(at for _, kind, at in more if kind == "ipv6")))),
        **options.more.environment(machine.certificate),
        "PBX_ADVERTISE": machine.advertise,
        "PBX_DOMAIN": options.domain,
        "PBX_NONCE_KEY_FILE": str(machine.nonce_key_file),
        "PBX_REGISTRAR_ADDRESS": str(machine.grpc("registrar")),
        "PBX_RELAYS": str(machine.grpc("media-relay")),
    }
    name = _signaling_name(options, index)
    http = machine.ports.signaling_http[index]
    addresses = {"sip": str(options.sip)}
    for _, kind, listen in more:
        addresses.setdefault(f"sip_{kind}", str(listen))
    if not machine.shares:
        return _service(name, "pbx_signaling", machine, http, own, **addresses)
    share = machine.shares[index]
    links = {each.instance: _signaling_name(options, number) for number, each in enumerate(machine.shares)}
    own |= {
        "PBX_INSTANCE_ID": share.instance,
        "PBX_SIP_SOCKETS": share.sockets,
        "PBX_SIP_BOARD": str(share.board),
        "PBX_SIP_SIBLINGS": ",".join(f"{each}={machine.sockets / link}.link" for each, link in links.items()),
    }
    plan = _service(name, "pbx_signaling", machine, http, own, **addresses)
    return replace(plan, descriptors=share.descriptors)


def _signaling_name(options: UpOptions, index: int) -> str:
    return "signaling" if options.replicas == 1 else f"signaling-{index + 1}"


def _service(
    name: str, package: str, machine: Machine, http: Listen, own: Mapping[str, str], **more: str
) -> ProcessPlan:
    grpc = machine.grpc(name)
    service = package.removeprefix("pbx_").replace("_", "-")
    stop_s = SIGNALING_STOP_S if package == "pbx_signaling" else STOP_S
    inherited = environment_for(service, machine.environment)
    environment = {k: v for k, v in inherited.items() if k.removesuffix("_FILE") not in _OWN}
    environment.setdefault("PBX_SHUTDOWN_S", str(stop_s))
    environment.setdefault("PBX_LOG_FORMAT", "console" if machine.is_terminal else "json")
    environment |= {
        "PBX_REDIS_URL": f"unix://{machine.redis_socket}",
        "PBX_DATA": str(machine.data),
        "PBX_GRPC_LISTEN": str(grpc),
        "PBX_HTTP_LISTEN": str(http),
        **own,
    }
    url = f"http://{_reachable(http)}"
    addresses = {**more, "grpc": str(grpc), "http": url}
    argv = (sys.executable, "-m", package)
    return ProcessPlan(name, argv, environment, addresses, f"{url}/readyz", float(environment["PBX_SHUTDOWN_S"]))


def _reachable(listen: Listen) -> Listen:
    """Where this machine reaches a server that may listen on every address."""
    if not listen.is_wildcard:
        return listen
    return Listen("::1" if ":" in listen.host else "127.0.0.1", listen.port)
