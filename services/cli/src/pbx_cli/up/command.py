"""The whole of `sip-pbx up`: check, start, create accounts, tell, wait, stop."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, ClassVar

from pbx_cli.errors import EXIT_USAGE, CliError
from pbx_cli.up import report
from pbx_cli.up.accounts import put_accounts
from pbx_cli.up.accounts_file import warn_if_readable
from pbx_cli.up.addresses import FreePorts, advertised_addresses, check_free
from pbx_cli.up.certificate import self_signed
from pbx_cli.up.datadir import DataDir
from pbx_cli.up.options import AccountWish, UpOptions
from pbx_cli.up.plan import Machine, Plan, Ports, ProcessPlan, make_plan
from pbx_cli.up.private_dir import remove_sockets, socket_directory
from pbx_cli.up.redis_program import find_redis, socket_in
from pbx_cli.up.shared_ports import SharedPorts
from pbx_cli.up.supervisor import Supervisor
from pbx_runtime import logs
from pbx_runtime.address import PORT_MAX, Listen
from pbx_runtime.settings import ServiceSettings, SettingsError

STALE_S = 4.0
"""How old a message may be that waits for a process that is started anew: a phone repeats it three times by then."""

_log = logs.get_logger("up")


class _Settings(ServiceSettings):
    """Only the log settings matter here; the children read the same variables."""

    service: ClassVar[str] = "sip-pbx"


def up(options: UpOptions) -> int:
    """Run everything until SIGTERM or SIGINT. Returns the exit code. Raises CliError."""
    # Databases with credentials are made by the children: nobody else may read them.
    os.umask(0o077)
    _configure_logs()
    if options.in_argv:
        _log.warning(
            "passwords stood in the command line, where other users could read them until now: use --accounts-file"
        )
    if options.accounts_file:
        warn_if_readable(options.accounts_file)
    data = DataDir(options.data)
    try:
        return asyncio.run(_Up(options, data).run())
    finally:
        data.close()


def _configure_logs() -> None:
    try:
        settings = _Settings.load()
    except SettingsError as error:
        raise CliError(f"bad settings in the environment:\n{error}") from None
    if "PBX_LOG_FORMAT" not in os.environ and sys.stderr.isatty():
        settings = settings.model_copy(update={"log_format": "console"})
    logs.configure(settings)


class _Up:
    def __init__(self, options: UpOptions, data: DataDir) -> None:
        self._options = options
        self._data = data
        self._advertise = advertised_addresses(options.advertise, options.sip, options.more.ipv6)
        self._accounts: tuple[AccountWish, ...] = ()
        self._others: tuple[str, ...] = ()
        """Accounts that were made before, and are there still."""
        self._stopping = asyncio.Event()
        self._sockets = socket_directory(data.path)
        self._shared: SharedPorts | None = None
        """The SIP sockets of several signaling processes."""
        self._plan = self._make_plan()
        self._supervisor = Supervisor(self._plan, self._write_endpoints, self._drop_stale)

    def _make_plan(self) -> Plan:
        options = self._options
        check_free(options.http, "the HTTP API", "--http", udp=False)
        check_free(options.sip, "SIP", "--sip", udp=True)
        taken = {options.http.port, options.sip.port}
        for option, kind, listen in options.more.listens():
            check_free(listen, f"SIP, {kind}", option, udp=kind == "ipv6")
            taken.add(listen.port)
        if options.replicas > 1:
            steer = os.environ.get("PBX_SIP_STEERING", "1") != "0"
            self._shared = SharedPorts([port for _, port in options.sip_ports], options.replicas, steer=steer)
        first, last = options.relay_ports
        free = FreePorts(_Avoid(range(first, last + 1), taken))
        (self._data.path / "redis").mkdir(exist_ok=True, mode=0o700)
        registrar, relay, *signaling = self._metrics_listens(free, taken)
        ports = Ports(registrar_http=registrar, relay_http=relay, signaling_http=tuple(signaling))
        machine = Machine(
            advertise=self._advertise,
            ports=ports,
            sockets=self._sockets,
            redis_program=find_redis(),
            redis_socket=socket_in(self._data.path),
            data=self._data.path,
            nonce_key_file=self._data.nonce_key_file(),
            environment=os.environ,
            is_terminal=sys.stderr.isatty(),
            certificate=self._certificate(),
            shares=() if self._shared is None else self._shared.shares,
        )
        self._registrar = str(machine.grpc("registrar"))
        return make_plan(options, machine)

    def _metrics_listens(self, free: FreePorts, taken: set[int]) -> list[Listen]:
        """Of registrar, relay and each signaling process: in a row from `--metrics` on, or wherever is room."""
        count, first = 2 + self._options.replicas, self._options.metrics
        if first is None:
            return [free.take() for _ in range(count)]
        if first.port + count - 1 > PORT_MAX:
            raise CliError(f"--metrics: {count} ports from {first.port} on go beyond {PORT_MAX}", EXIT_USAGE)
        row = [Listen(first.host, first.port + index) for index in range(count)]
        for listen in row:
            if listen.port in taken:
                raise CliError(f"--metrics: port {listen.port} is another server's of ours; choose another", EXIT_USAGE)
            check_free(listen, "metrics", "--metrics", udp=False)
        return row

    def _drop_stale(self, plan: ProcessPlan, away_s: float) -> None:
        """Whoever sent what waits for a process that was away for long has given up, or sends it again."""
        if self._shared is not None and plan.descriptors and away_s > STALE_S:
            index = [each.name for each in self._plan.processes if each.descriptors].index(plan.name)
            dropped = self._shared.empty(index)
            if dropped:
                _log.info("messages from before were dropped", child=plan.name, messages=dropped)

    def _certificate(self) -> tuple[Path, Path] | None:
        more = self._options.more
        if more.certificate is not None and more.key is not None:
            return more.certificate.absolute(), more.key.absolute()
        if not more.needs_certificate:
            return None
        return self_signed(self._data.path, (*self._advertise.split(","), self._options.domain, "localhost"))

    async def run(self) -> int:
        """Start, wait, stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal)
        try:
            if await self._unless_stopped(self._start()):
                await self._stopping.wait()
        finally:
            _log.info("stopping")
            clean = await self._supervisor.stop()
            self._data.remove_endpoints()
            remove_sockets(self._sockets)
            if self._shared is not None:
                self._shared.close()
        _log.info("stopped", clean=clean)
        return 0 if clean else 1

    def _on_signal(self) -> None:
        if self._stopping.is_set():
            _log.warning("second signal: ending everything at once")
            self._supervisor.kill()
        self._stopping.set()

    async def _unless_stopped(self, work: Coroutine[Any, Any, None]) -> bool:
        """Run it unless a signal comes first; answers whether it was completed. Raises what it raises."""
        task, stop = asyncio.ensure_future(work), asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if task.done():
            task.result()
            return True
        task.cancel()
        await asyncio.wait({task})
        return False

    async def _start(self) -> None:
        self._accounts = self._data.accounts(self._options.accounts)
        for index in range(len(self._plan.stages)):
            await self._supervisor.start_stage(index)
            if any(plan.name == "registrar" for plan in self._plan.stages[index]):
                self._others = await put_accounts(self._registrar, self._accounts, self._options.domain)
        self._supervisor.keep()
        self._write_endpoints()
        self._tell()

    def _document(self) -> dict[str, Any]:
        return report.document(self._options, self._advertise, self._accounts, self._supervisor.children)

    def _write_endpoints(self) -> None:
        self._data.write_endpoints(self._document())

    def _tell(self) -> None:
        if self._options.as_json:
            sys.stdout.write(json.dumps(self._document()) + "\n")
        else:
            sys.stdout.write(report.text(self._options, self._advertise, self._accounts, self._others))
        sys.stdout.flush()


class _Avoid:
    """The relay's ports and those of the command line, as one container."""

    def __init__(self, relay: range, taken: set[int]) -> None:
        self._relay, self._taken = relay, taken

    def __contains__(self, port: object) -> bool:
        return port in self._relay or port in self._taken
