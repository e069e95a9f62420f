"""`sip-pbx up` with the real services: its JSON, its verbs, restarts, refusals, and an end without a trace."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import procfs
from support.phone import Phone
from support.ports import free_port
from support.product import DOMAIN, Product, Settings, accounts, fetch
from support.waiting import until
from support.wire import Credentials

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("up")]
SIP_PBX = str(Path(sys.executable).with_name("sip-pbx"))
SERVICES = ["events", "media-relay", "redis", "registrar", "signaling"]


@pytest.fixture(scope="module")
def product() -> Iterator[Product]:
    with Product(Settings(accounts=accounts(0))) as running:
        yield running


def cli(product: Product, *argv: str, stdin: str | None = None) -> str:
    done = subprocess.run(
        [SIP_PBX, *argv, "--data", str(product.data)], capture_output=True, text=True, input=stdin, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_document_names_every_process_with_pid_and_addresses(product: Product) -> None:
    processes = {process.name: process for process in product.processes}
    assert sorted(processes) == SERVICES
    for process in processes.values():
        assert procfs.is_alive(process.pid)
        if process.name != "redis":
            assert fetch(f"{process.addresses['http']}/readyz")
    assert processes["signaling"].addresses["sip"] == f"127.0.0.1:{product.sip[1]}"
    assert product.document["pid"] == product.pid
    assert product.document["http"] == product.http


def test_status_and_doctor_look_at_every_process_of_a_data_directory(product: Product) -> None:
    states = json.loads(cli(product, "status", "--json"))
    assert {state["name"]: state["ready"] for state in states} == dict.fromkeys(SERVICES, "yes")
    assert "0 calls" in cli(product, "status")
    found = {each["hop"]: each["verdict"] for each in json.loads(cli(product, "doctor", "--no-node", "--json"))}
    assert {name: found[name] for name in (*SERVICES, "SIP over UDP", "SIP over TCP")} == dict.fromkeys(
        (*SERVICES, "SIP over UDP", "SIP over TCP"), "ok"
    )
    assert found["disk"] in ("ok", "warn")


def test_accounts_and_tokens_over_http(product: Product) -> None:
    made = product.post("/v1/accounts", {"user": "1011", "password": "first", "display_name": "Ada"})
    assert (made["aor"], made["display_name"], "password" in made) == ("1011@pbx.local", "Ada", False)
    with pytest.raises(AssertionError, match="already_exists"):
        product.post("/v1/accounts", {"user": "1011", "password": "other"})
    product.post("/v1/accounts/1011/set-password", {"password": "second"})
    assert product.get("/v1/accounts/1011")["display_name"] == "Ada"
    phone = Phone(product.sip, Credentials("1011", "second"), domain=DOMAIN)
    with phone:
        assert phone.register().status == 200
    cli(product, "account", "remove", "1011")
    with pytest.raises(AssertionError, match="not_found"):
        product.get("/v1/accounts/1011")
    token = json.loads(cli(product, "token", "add", "billing", "--scope", "read", "--json"))
    assert "billing" in cli(product, "token", "list")
    cli(product, "token", "remove", token["id"])


def test_no_password_stands_in_a_command_line(product: Product) -> None:
    passwords = [account.password for account in product.settings.accounts]
    for pid in (product.pid, *(process.pid for process in product.processes)):
        line = Path(f"/proc/{pid}/cmdline").read_text()
        assert not any(password in line for password in passwords)


AS_NOBODY = """
import os, sys
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
os.setgroups([]); os.setgid(65534); os.setuid(65534)
for target in sys.argv[1:]:
    try:
        health_pb2_grpc.HealthStub(grpc.insecure_channel(target)).Check(health_pb2.HealthCheckRequest(), timeout=2)
    except grpc.RpcError:
        continue
    print(target)
"""
"""Prints every target that answers gRPC to another user of the machine."""


@pytest.mark.skipif(os.getuid() != 0, reason="not run: only root may become somebody else")
def test_another_user_of_the_machine_reaches_no_grpc(product: Product) -> None:
    sockets = [p.addresses["grpc"] for p in product.processes if p.name != "redis"]
    assert all(socket.startswith("unix:") for socket in sockets)
    # A directory that others may search is no way in either: the sockets' own, and the sockets, are closed.
    product.data.chmod(0o755)
    try:
        ports = [at for pid in product.pids for at in procfs.tcp_listeners(pid)]
        assert ports
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, *sockets, *ports], capture_output=True, text=True, timeout=120
        )
    finally:
        product.data.chmod(0o700)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert cli(product, "relay", "status"), "its owner reaches them"


def test_what_the_data_directory_holds_is_private(product: Product) -> None:
    files = [path for path in product.data.rglob("*") if path.is_file() and path.name != "test.log"]
    assert {"nonce.key", "endpoints.json"} <= {path.name for path in files}
    assert [path.name for path in files if path.stat().st_mode & 0o077] == []


def test_accounts_are_listed_added_changed_and_removed(product: Product) -> None:
    def users() -> list[str]:
        return [account["user"] for account in json.loads(cli(product, "account", "list", "--json"))]

    assert users() == ["1004", "1008"]
    made = json.loads(cli(product, "account", "add", "1010", "--name", "Ten", "--json"))
    assert (made["user"], len(made["password"])) == ("1010", 12)
    with pytest.raises(AssertionError, match="set-password 1010"):
        cli(product, "account", "add", "1010", "--name", "Other")
    changed = json.loads(
        cli(product, "account", "set-password", "1010", "--password-stdin", "--json", stdin="new-one\n")
    )
    assert "password" not in changed
    assert changed["display_name"] == "Ten"
    cli(product, "account", "remove", "1010")
    assert users() == ["1004", "1008"]


def test_the_relay_tells_its_state(product: Product) -> None:
    (relay,) = json.loads(cli(product, "relay", "status", "--json"))
    assert relay["state"] == "ready"
    assert relay["slots_total"] == product.settings.relay_ports // 8


def test_recording_a_call_that_is_not_there_is_told(product: Product) -> None:
    argv = [SIP_PBX, "record", "nobody", "--data", str(product.data)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (
        1,
        "sip-pbx: no relay holds call nobody: `sip-pbx calls` shows live calls\n",
    )


def test_lists_that_are_empty_say_so(product: Product) -> None:
    """Tests before this one had calls and registrations, and a service that has no time answers late."""
    for verb, nothing in (("calls", "no live calls\n"), ("registrations", "no registrations\n")):
        argv = [SIP_PBX, verb, "--data", str(product.data)]
        told = lambda argv=argv: subprocess.run(argv, capture_output=True, text=True).stdout  # noqa: E731
        until(lambda told=told, nothing=nothing: told() == nothing, timeout_s=30, what=nothing)  # type: ignore[misc]
    assert json.loads(cli(product, "cdr", "list", "--json")) == []


def refused(*argv: str) -> str:
    done = subprocess.run([SIP_PBX, "up", *argv], capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_data_directory_in_use_is_refused(product: Product) -> None:
    message = refused("--data", str(product.data))
    assert f"in use by another sip-pbx (pid {product.pid})" in message


def test_a_taken_sip_port_is_refused(product: Product, tmp_path: Path) -> None:
    sip = f"127.0.0.1:{product.sip[1]}"
    message = refused("--data", str(tmp_path), "--sip", sip, "--http", f"127.0.0.1:{free_port()}")
    assert f"cannot listen on {sip}" in message
    assert "choose another with --sip" in message


def test_a_taken_http_port_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        http = f"127.0.0.1:{holder.getsockname()[1]}"
        sip = f"127.0.0.1:{free_port()}"
        message = refused("--data", str(tmp_path), "--http", http, "--sip", sip, "--relay-ports", "20000-20799")
    assert f"cannot listen on {http}" in message


def endpoint_pids(product: Product) -> dict[str, int]:
    document: dict[str, Any] = json.loads((product.data / "endpoints.json").read_text())
    return {process["name"]: process["pid"] for process in document["processes"]}


@pytest.mark.parametrize("name", ["media-relay", "registrar", "signaling", "redis", "events"])
def test_a_killed_process_comes_back_ready(product: Product, name: str) -> None:
    before = endpoint_pids(product)[name]
    os.kill(before, signal.SIGKILL)
    until(lambda: endpoint_pids(product)[name] != before, timeout_s=20, what=f"{name} restarted")
    for process in product.processes:
        if process.name != "redis":
            url = f"{process.addresses['http']}/readyz"
            until(lambda url=url: answers(url), timeout_s=40, what=f"{process.name} ready")  # type: ignore[misc]


def answers(url: str) -> bool:
    try:
        fetch(url, timeout_s=2)
    except (AssertionError, OSError):
        return False
    return True


def is_free(port: int) -> bool:
    with socket.socket() as server:
        try:
            server.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def test_metrics_are_where_they_were_wanted_and_a_taken_port_is_told(tmp_path: Path) -> None:
    first = next(port for port in iter(free_port, 0) if all(map(is_free, range(port, port + 4))))
    with Product(Settings(accounts(0), replicas=2, arguments=("--metrics", f"127.0.0.1:{first}"))) as product:
        found = {process.name: process.addresses.get("http") for process in product.processes}
        row = {name: found[name] for name in ("registrar", "media-relay", "signaling-1", "signaling-2")}
        assert list(row.values()) == [f"http://127.0.0.1:{first + index}" for index in range(4)]
        for url in row.values():
            assert b"pbx_ready 1.0" in fetch(f"{url}/metrics")
        taken = [SIP_PBX, "up", "--sip", f"127.0.0.1:{free_port()}", "--http", f"127.0.0.1:{free_port()}"]
        taken += ["--data", str(tmp_path / "other"), "--metrics", f"127.0.0.1:{first}"]
        refused = subprocess.run(taken, capture_output=True, text=True, timeout=60, check=False)
        assert refused.returncode != 0
        assert "--metrics" in refused.stderr, refused.stderr
        assert "Traceback" not in refused.stderr


def test_sigterm_during_the_start_leaves_nothing(tmp_path: Path) -> None:
    sip, http = free_port(), free_port()
    argv = [SIP_PBX, "up", "--sip", f"127.0.0.1:{sip}", "--http", f"127.0.0.1:{http}", "--data", str(tmp_path)]
    supervisor = subprocess.Popen([*argv, "--relay-ports", "20000-20799"], stderr=subprocess.PIPE)
    until(lambda: len(procfs.descendants(supervisor.pid)) > 1, timeout_s=30, what="a child")
    family = procfs.descendants(supervisor.pid)
    supervisor.send_signal(signal.SIGTERM)
    _, errors = supervisor.communicate(timeout=60)
    assert not [pid for pid in family if procfs.is_alive(pid)], errors


class KilledOnPurpose(Exception):
    """Ends the `with` of a product that is gone."""


def test_nothing_outlives_a_supervisor_that_is_killed() -> None:
    with pytest.raises(KilledOnPurpose), Product(Settings(accounts=accounts(0))) as product:  # noqa: PT012
        family = product.pids
        os.kill(product.pid, signal.SIGKILL)
        until(lambda: not any(map(procfs.is_alive, family)), timeout_s=10, what="all processes gone")
        raise KilledOnPurpose


def test_replicas_listen_at_one_address() -> None:
    with Product(Settings(accounts=accounts(0), replicas=2)) as product:
        listens = [p.addresses["sip"] for p in product.processes if p.name.startswith("signaling")]
        assert listens == [f"127.0.0.1:{product.sip[1]}"] * 2
