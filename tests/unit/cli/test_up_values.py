"""What `up` decides before it starts anything: options, addresses, secrets, the plan."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pbx_cli.errors import CliError
from pbx_cli.up import options as parse
from pbx_cli.up import report
from pbx_cli.up.addresses import FreePorts, advertised_address, check_free
from pbx_cli.up.datadir import DataDir, remember_password
from pbx_cli.up.options import AccountWish, UpOptions
from pbx_cli.up.plan import Machine, Plan, Ports, Share, make_plan
from pbx_cli.up.private_dir import LONGEST_NAME, make_private, remove_sockets, socket_directory
from pbx_cli.up.redis_program import SOCKET_PATH_MAX, find_redis, socket_in
from pbx_cli.up.secrets import is_secret
from pbx_runtime.address import SOCKET_PATH_MAX as SUN_PATH_MAX
from pbx_runtime.address import Listen
from support.ports import free_port


@pytest.mark.parametrize("text", ["30000-39999", "1024-1031", "65528-65535"])
def test_relay_ports(text: str) -> None:
    first, last = parse.parse_relay_ports(text)
    assert f"{first}-{last}" == text


@pytest.mark.parametrize("text", ["", "30000", "39999-30000", "80-100", "30000-70000", "30001-30007", "30001-30008"])
def test_relay_ports_that_hold_no_slot(text: str) -> None:
    with pytest.raises(CliError, match="--relay-ports") as caught:
        parse.parse_relay_ports(text)
    assert caught.value.code == 2


def test_accounts() -> None:
    assert parse.parse_account("1004:a:b") == AccountWish("1004", "a:b")
    assert parse.parse_account("1004") == AccountWish("1004", "")
    with pytest.raises(CliError) as caught:
        parse.parse_account("not ok:hunter2")
    assert "hunter2" not in str(caught.value)


def test_listen_errors_name_the_option() -> None:
    with pytest.raises(CliError, match="--http: '8080' is not host:port"):
        parse.parse_listen("--http", "8080")
    with pytest.raises(CliError, match="--sip: port 0"):
        parse.parse_listen("--sip", "0.0.0.0:0")


@pytest.mark.parametrize("domain", ["", "-x", "a b", "x" * 300])
def test_what_is_no_domain(domain: str) -> None:
    with pytest.raises(CliError, match="--domain"):
        parse.parse_domain(domain)


def test_replicas_have_a_bound() -> None:
    assert parse.check_replicas(3) == 3
    for count in (0, 65):
        with pytest.raises(CliError, match="--replicas"):
            parse.check_replicas(count)


def test_servers_of_ours_stay_out_of_each_others_way() -> None:
    sip, http = Listen("0.0.0.0", 5060), Listen("127.0.0.1", 8080)
    parse.check_apart(sip, http, (30000, 39999))
    with pytest.raises(CliError, match="--sip: port 5060 lies inside --relay-ports 5056-5999"):
        parse.check_apart(sip, http, (5056, 5999))
    with pytest.raises(CliError, match="--http: port 5060 is a SIP port too"):
        parse.check_apart(sip, Listen("127.0.0.1", 5060), (30000, 39999))


@pytest.mark.parametrize(
    ("explicit", "sip", "expected"),
    [
        ("192.0.2.9", "0.0.0.0:5060", "192.0.2.9"),
        ("[2001:db8::1]", "[::]:5060", "2001:db8::1"),
        ("", "127.0.0.1:5060", "127.0.0.1"),
        ("", "127.0.0.5:5060", "127.0.0.5"),
        ("", "localhost:5060", "127.0.0.1"),
        ("", "[::1]:5060", "::1"),
    ],
)
def test_the_advertised_address(explicit: str, sip: str, expected: str) -> None:
    assert advertised_address(explicit, Listen.parse(sip)) == expected


def test_a_wildcard_is_advertised_by_a_real_address_of_this_machine() -> None:
    address = advertised_address("", Listen("0.0.0.0", 5060))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((address, 0))  # it is ours
    assert address != "0.0.0.0"


def test_an_advertised_name_is_refused() -> None:
    with pytest.raises(CliError, match=r"--advertise: .pbx\.example. is not an IP address"):
        advertised_address("pbx.example", Listen("0.0.0.0", 5060))


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_taken_port_is_told_with_the_option_that_changes_it(kind: socket.SocketKind) -> None:
    with socket.socket(socket.AF_INET, kind) as holder:
        holder.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            holder.listen(1)
        taken = Listen("127.0.0.1", holder.getsockname()[1])
        with pytest.raises(CliError, match=f"cannot listen on {taken}.*port is taken.*--sip"):
            check_free(taken, "SIP", "--sip", udp=True)


def test_a_foreign_address_is_told_so() -> None:
    with pytest.raises(CliError, match="no such address"):
        check_free(Listen("192.0.2.1", 5060), "SIP", "--sip", udp=True)


def test_free_ports_are_given_once_and_never_from_the_relay() -> None:
    relay, free, other = free_port(), free_port(), free_port()
    row = iter([relay, free, free, other])
    ports = FreePorts(range(relay, relay + 1), choose=lambda low, high: next(row))
    with socket.socket() as first, socket.socket() as second:
        given = [ports.take(), ports.take()]
        assert [listen.port for listen in given] == [free, other]
        first.bind(("127.0.0.1", free))
        second.bind(("127.0.0.1", other))


def test_no_free_port_is_an_error() -> None:
    with pytest.raises(CliError, match="no free port"):
        FreePorts(range(65536)).take()


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_passwords_are_made_once_and_kept_private(tmp_path: Path) -> None:
    data = DataDir(tmp_path / "var")
    first = data.accounts(())
    assert [account.user for account in first] == ["1004", "1008"]
    assert all(len(account.password) == 12 for account in first)
    assert first[0].password != first[1].password
    data.close()
    again = DataDir(tmp_path / "var")
    assert again.accounts(()) == first
    assert mode_of(tmp_path / "var" / "accounts.json") == 0o600
    key = again.nonce_key_file()
    assert mode_of(key) == 0o600
    assert len(bytes.fromhex(key.read_text().strip())) == 32
    assert again.nonce_key_file().read_text() == key.read_text()
    again.close()


def test_given_passwords_are_not_written_to_disk(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    given = (AccountWish("2000", "hunter2"), AccountWish("2001", ""))
    found = data.accounts(given)
    assert found[0] == given[0]
    assert found[1].password
    assert list(json.loads((tmp_path / "accounts.json").read_text())) == ["2001"]
    data.close()


def test_a_changed_password_and_a_removed_account_survive_the_next_start(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    data.accounts(())
    remember_password(tmp_path, "1004", "changed")
    remember_password(tmp_path, "1008", None)
    remember_password(tmp_path, "4711", "never kept here")
    assert data.accounts(()) == (AccountWish("1004", "changed"),)
    data.close()


def test_a_data_directory_has_one_owner_who_is_named(tmp_path: Path) -> None:
    program = "import sys; from pathlib import Path; from pbx_cli.up.datadir import DataDir; "
    program += "held = DataDir(Path(sys.argv[1])); print('locked', flush=True); sys.stdin.read()"
    argv = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(CliError, match=rf"in use by another sip-pbx \(pid {holder.pid}\).*--data"):
            DataDir(tmp_path)
        holder.stdin.close()
    DataDir(tmp_path).close()


def test_a_data_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CliError, match="--data: cannot use"):
        DataDir(tmp_path / "file" / "var")


def test_a_broken_accounts_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "accounts.json").write_text("{")
    data = DataDir(tmp_path)
    with pytest.raises(CliError, match=r"accounts\.json.*mend or remove it"):
        data.accounts(())
    data.close()


def test_the_redis_socket_path_stays_short(tmp_path: Path) -> None:
    assert socket_in(Path("/var/lib/pbx")) == Path("/var/lib/pbx/redis.sock")
    deep = tmp_path / ("d" * 120)
    path = socket_in(deep)
    assert len(os.fsencode(path)) <= SOCKET_PATH_MAX
    assert mode_of(path.parent) == 0o700
    assert socket_in(deep) == path
    path.parent.rmdir()


def test_a_redis_server_is_found() -> None:
    assert os.access(find_redis(), os.X_OK)


def options(**changes: object) -> UpOptions:
    given: dict[str, object] = {
        "sip": Listen("0.0.0.0", 5060),
        "advertise": "",
        "http": Listen("127.0.0.1", 8080),
        "relay_ports": (30000, 39999),
        "data": Path("var"),
        "accounts": (),
        "domain": "pbx.local",
        "replicas": 1,
        "as_json": False,
    }
    return UpOptions(**given | changes)  # type: ignore[arg-type]


def plan(environment: dict[str, str] | None = None, **changes: object) -> Plan:
    wanted = options(**changes)
    row = iter(range(9000, 9100))
    ports = Ports(
        *(Listen("127.0.0.1", next(row)) for _ in range(2)),
        signaling_http=tuple(Listen("127.0.0.1", next(row)) for _ in range(wanted.replicas)),
    )
    machine = Machine(
        advertise="192.0.2.9",
        ports=ports,
        sockets=Path("/d/run"),
        redis_program="/bin/redis-server",
        redis_socket=Path("/d/redis.sock"),
        data=Path("/d"),
        nonce_key_file=Path("/d/nonce.key"),
        environment=environment or {},
        shares=tuple(
            Share(instance=f"abcd{index:02d}", sockets="udp/0.0.0.0:5060=7", board=6, descriptors=(6, 7))
            for index in range(wanted.replicas if wanted.replicas > 1 else 0)
        ),
    )
    return make_plan(wanted, machine)


def test_the_plan_starts_redis_first_and_signaling_last() -> None:
    stages = [[process.name for process in stage] for stage in plan().stages]
    assert stages == [["redis"], ["events", "registrar", "media-relay"], ["signaling"]]


def test_replicas_share_one_address_and_know_each_other_and_events_finds_them_by_their_leases() -> None:
    processes = {process.name: process for process in plan(replicas=3).processes}
    replicas = [processes[f"signaling-{i}"] for i in (1, 2, 3)]
    assert {replica.environment["PBX_SIP_LISTEN"] for replica in replicas} == {"0.0.0.0:5060"}
    assert [replica.environment["PBX_INSTANCE_ID"] for replica in replicas] == ["abcd00", "abcd01", "abcd02"]
    assert [replica.environment["PBX_SIP_SOCKETS"] for replica in replicas] == ["udp/0.0.0.0:5060=7"] * 3
    assert [replica.descriptors for replica in replicas] == [(6, 7)] * 3
    links = "abcd00=/d/run/signaling-1.link,abcd01=/d/run/signaling-2.link,abcd02=/d/run/signaling-3.link"
    assert {replica.environment["PBX_SIP_SIBLINGS"] for replica in replicas} == {links}
    assert "PBX_SIGNALING_ADDRESSES" not in processes["events"].environment
    assert len({process.addresses.get("http") for process in processes.values()}) == len(processes)


def test_services_find_each_other_and_the_relay_announces_what_signaling_does() -> None:
    by_name = {process.name: process for process in plan().processes}
    signaling, relay = by_name["signaling"].environment, by_name["media-relay"].environment
    assert signaling["PBX_REGISTRAR_ADDRESS"] == by_name["registrar"].addresses["grpc"]
    assert signaling["PBX_RELAYS"] == by_name["media-relay"].addresses["grpc"]
    assert signaling["PBX_ADVERTISE"] == relay["PBX_RELAY_ADVERTISE"] == "192.0.2.9"
    assert relay["PBX_RELAY_PORTS"] == "30000-39999"
    assert by_name["events"].environment["PBX_HTTP_LISTEN"] == "127.0.0.1:8080"
    assert {p.environment["PBX_REDIS_URL"] for p in list(by_name.values())[1:]} == {"unix:///d/redis.sock"}


def test_no_secret_stands_in_a_command_line_or_a_repr() -> None:
    made = plan({"PBX_NONCE_KEY": "s3cret", "DATABASE_URL": "postgresql://u:s3cret@h/d"})
    assert "s3cret" not in repr(made)
    assert not any("s3cret" in argument for process in made.processes for argument in process.argv)


def test_what_means_one_process_is_not_inherited_by_all() -> None:
    environment = {"PBX_INSTANCE_ID": "one", "PBX_NONCE_KEY": "k", "PBX_LOG_LEVEL": "debug", "PATH": "/bin"}
    for process in plan(environment).processes[1:]:
        assert process.environment.get("PBX_INSTANCE_ID") in (None, "events")
        assert "PBX_NONCE_KEY" not in process.environment
        assert process.environment["PBX_LOG_LEVEL"] == "debug"
        assert process.environment["PATH"] == "/bin"


def test_services_speak_over_sockets_in_the_private_directory_alone() -> None:
    processes = plan(replicas=3).processes[1:]
    listens = [process.environment["PBX_GRPC_LISTEN"] for process in processes]
    assert all(listen.startswith("unix:///d/run/") for listen in listens)
    assert len(set(listens)) == len(listens)


SECRETS = {
    "PBX_API_TOKEN": {"events"},
    "PBX_API_READ_TOKEN_FILE": {"events"},
    "PBX_CDR_HTTP_TOKEN": {"events"},
    "DATABASE_URL": {"events", "registrar"},
    "DATABASE_URL_FILE": {"events", "registrar"},
    "PBX_GRPC_KEY": set(),
    "PBX_GRPC_KEY_FILE": set(),
    "AWS_SECRET_ACCESS_KEY": set(),
    "GITHUB_TOKEN": set(),
    "PGPASSWORD": set(),
    "SENTRY_DSN": set(),
}


def test_a_secret_reaches_only_the_processes_that_use_it() -> None:
    made = plan(dict.fromkeys(SECRETS, "s3cret"))
    for name, users in SECRETS.items():
        assert {process.name for process in made.processes if name in process.environment} == users, name
    redis = plan({"PBX_LOG_LEVEL": "debug", "PATH": "/bin"}).processes[0]
    assert redis.environment == {"PATH": "/bin"}


@pytest.mark.parametrize(
    "name", ["PATH", "HOME", "PWD", "PBX_AUTHENTICATE", "PBX_WEBHOOK_ALLOW_PRIVATE", "KEYMAP", "LANG"]
)
def test_what_holds_no_secret_is_inherited(name: str) -> None:
    assert not is_secret(name)


def test_sockets_live_in_a_directory_that_only_we_may_search(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir(mode=0o755)
    assert socket_directory(tmp_path) == run
    assert mode_of(run) == 0o700
    (run / "registrar.sock").touch()
    (run / "signaling-1.link").touch()
    remove_sockets(run)
    assert not run.exists()


def test_a_long_data_directory_has_its_sockets_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        monkeypatch.setenv("XDG_RUNTIME_DIR", short)
        path = socket_directory(deep)
        assert path.parent == Path(short)
        assert mode_of(path) == 0o700
        assert len(os.fsencode(path / LONGEST_NAME)) <= SUN_PATH_MAX
        assert len(LONGEST_NAME) >= len("media-relay.sock")
        assert socket_directory(deep) == path
        assert socket_directory(tmp_path / ("e" * 120)) != path


def test_a_link_or_a_file_in_place_of_the_directory_is_not_trusted(tmp_path: Path) -> None:
    target, link, file = tmp_path / "target", tmp_path / "link", tmp_path / "file"
    target.mkdir(mode=0o777)
    link.symlink_to(target)
    file.touch()
    assert make_private(link) == "is no directory"
    assert make_private(file)
    if os.getuid() == 0:
        strange = tmp_path / "strange"
        strange.mkdir()
        os.chown(strange, 65534, 65534)
        assert make_private(strange) == "belongs to somebody else"


def test_each_process_is_killed_only_after_the_time_it_was_given() -> None:
    for process in plan({"PBX_SHUTDOWN_S": "3"}).processes[1:]:
        assert process.stop_s == 3
    by_name = {process.name: process for process in plan().processes}
    assert by_name["signaling"].environment["PBX_SHUTDOWN_S"] == str(int(by_name["signaling"].stop_s))


def test_a_wildcard_api_is_probed_over_loopback() -> None:
    by_name = {process.name: process for process in plan(http=Listen("0.0.0.0", 8080)).processes}
    assert by_name["events"].ready == "http://127.0.0.1:8080/readyz"
    by_name = {process.name: process for process in plan(http=Listen("::", 8080)).processes}
    assert by_name["events"].ready == "http://[::1]:8080/readyz"


def test_the_report_tells_where_to_point_a_phone() -> None:
    text = report.text(options(replicas=2), "2001:db8::1", [AccountWish("1004", "pw")])
    assert "SIP server   [2001:db8::1]:5060  (UDP, TCP)" in text
    assert "1004, password pw" in text
    given = report.text(options(accounts=(AccountWish("1004", "pw"),)), "192.0.2.1", [AccountWish("1004", "pw")])
    assert "pw" not in given.replace("password", ""), "who gave it knows it; the text may end in a log"
    assert "http://127.0.0.1:8080/docs" in text
